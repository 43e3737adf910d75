// Exact rationals over BigInt, in lowest terms with a positive denominator; and values, which are
// rationals from 0 upward or infinity.

const gcd = (left, right) => {
  let [a, b] = [left < 0n ? -left : left, right];
  while (b) [a, b] = [b, a % b];
  return a;
};

export class Fraction {
  constructor(numerator, denominator = 1n) {
    const divisor = gcd(numerator, denominator) || 1n;
    this.n = numerator / divisor;
    this.d = denominator / divisor;
  }

  add = (other) => new Fraction(this.n * other.d + other.n * this.d, this.d * other.d);
  subtract = (other) => new Fraction(this.n * other.d - other.n * this.d, this.d * other.d);
  times = (number) => new Fraction(this.n * BigInt(number), this.d);
  /** Divides by another fraction above 0. */
  over = (other) => new Fraction(this.n * other.d, this.d * other.n);
  abs = () => (this.n < 0n ? new Fraction(-this.n, this.d) : this);
  isZero = () => this.n === 0n;

  compare(other) {
    const difference = this.n * other.d - other.n * this.d;
    return difference < 0n ? -1 : difference > 0n ? 1 : 0;
  }

  /** A double near the value, for drawing alone. */
  toNumber() {
    const scaled = (this.n * 10n ** 18n) / this.d;
    return Number(scaled) / 1e18;
  }

  toString = () => (this.d === 1n ? `${this.n}` : `${this.n}/${this.d}`);
}

export const INFINITY = Object.freeze({ infinite: true, number: null, toString: () => "inf" });

/** A finite value. */
export const finite = (number) => ({ infinite: false, number, toString: () => String(number) });
export const ZERO = finite(new Fraction(0n));
export const ONE = finite(new Fraction(1n));

export function compareValues(left, right) {
  if (left.infinite || right.infinite) return Number(left.infinite) - Number(right.infinite);
  return left.number.compare(right.number);
}

/** The middle value, or the mean of the two middles; of at least one value. */
export function median(values) {
  const ordered = [...values].sort(compareValues);
  const half = Math.floor(ordered.length / 2);
  if (ordered.length % 2) return ordered[half];
  const [low, high] = [ordered[half - 1], ordered[half]];
  if (high.infinite) return INFINITY;
  const sum = low.number.add(high.number);
  return finite(new Fraction(sum.n, sum.d * 2n));
}

/** close / opening: x/0 is infinity, x/infinity is 0; never both 0 or both infinite. */
export function ratio(close, opening) {
  if (opening.infinite) return ZERO;
  if (close.infinite || opening.number.isZero()) return INFINITY;
  return finite(close.number.over(opening.number));
}
