// Which addresses a venue can have, as attestation/address.py: globally reachable unicast hosts.

const PRIVATE_V4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
].map((text) => {
  const [base, bits] = text.split("/");
  return [parseV4(base), 32 - Number(bits)];
});

function parseV4(text) {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

/** The eight groups of an IPv6 address, or null. */
function parseV6(text) {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groups = halves.map((half) => {
    const parts = half === "" ? [] : half.split(":");
    const last = parts[parts.length - 1] ?? "";
    if (last.includes(".")) {
      const value = parseV4(last);
      if (value === null) return [null];
      parts.pop();
      parts.push((value >>> 16).toString(16), (value & 0xffff).toString(16));
    }
    return parts.map((part) => (/^[0-9A-Fa-f]{1,4}$/.test(part) ? parseInt(part, 16) : null));
  });
  const missing = 8 - groups.flat().length;
  if (groups.flat().includes(null)) return null;
  if (halves.length === 1) return missing === 0 ? groups[0] : null;
  return missing < 1 ? null : [...groups[0], ...Array(missing).fill(0), ...groups[1]];
}

/** Whether a text is the numeric address of a globally reachable unicast host. */
export function isPublic(address) {
  const v4 = parseV4(address);
  if (v4 !== null) {
    return !PRIVATE_V4.some(([base, free]) => Math.floor((v4 - base) / 2 ** free) === 0);
  }
  const groups = parseV6(address);
  // 2000::/3 alone is given out; in it stand translators, tunnels and documentation.
  if (groups === null || groups[0] >> 13 !== 1) return false;
  const [first, second] = groups;
  if (first === 0x2001 && (second < 0x200 || second === 0xdb8)) return false;
  return first !== 0x2002 && !(first === 0x3fff && second < 0x1000);
}
