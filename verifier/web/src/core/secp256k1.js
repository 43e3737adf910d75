// Whether 33 bytes are a compressed point of secp256k1 (SEC 1 section 2.3.4). Nothing here verifies
// such a signature: a feed's entry may name such a key, and must then name a real one.

const PRIME = 2n ** 256n - 2n ** 32n - 977n;

function power(base, exponent) {
  let result = 1n;
  let square = base % PRIME;
  for (let rest = exponent; rest; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % PRIME;
    square = (square * square) % PRIME;
  }
  return result;
}

export function isCompressedPoint(data) {
  if (data[0] !== 2 && data[0] !== 3) return false;
  let x = 0n;
  for (const value of data.subarray(1)) x = (x << 8n) | BigInt(value);
  if (x >= PRIME) return false;
  const square = (x * x * x + 7n) % PRIME;
  return power(square, (PRIME - 1n) / 2n) === 1n;
}
