// SHA-256, and hash strings `<algorithm>:<hex>`. The page takes no other algorithm.

import { sha256 } from "@noble/hashes/sha2.js";
import { hex, unhex } from "./bytes.js";
import { malformed, untrusted } from "./errors.js";

export { sha256 };
export const HASH_SIZE = 32;
/** The names that Quotary knows; settlement and this page take the first alone. */
const KNOWN = ["sha256", "sha3-256"];

export const hashString = (data) => `sha256:${hex(sha256(data))}`;

/** Returns the algorithm and the digest of a hash string. */
export function parseHash(text) {
  const colon = text.indexOf(":");
  if (colon < 0) throw malformed("hash string has no algorithm");
  const algorithm = text.slice(0, colon);
  if (!KNOWN.includes(algorithm)) {
    throw untrusted("unsupported hash algorithm", {
      rule: "hash",
      found: algorithm,
      wanted: KNOWN,
    });
  }
  return { algorithm, digest: unhex(text.slice(colon + 1), HASH_SIZE) };
}

/** Returns the SHA-256 digest of a hash string; throws UntrustedError for another algorithm. */
export function sha256Digest(text) {
  const { algorithm, digest } = parseHash(text);
  if (algorithm !== "sha256") {
    throw untrusted("this page takes SHA-256 alone", {
      rule: "page.algorithm",
      found: algorithm,
      wanted: "sha256",
    });
  }
  return digest;
}
