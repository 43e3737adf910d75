// Keys as C2SP signed-note writes them: `<name>+<8 hex>+<base64(type || key)>`. A key is resolved by
// name AND id: equal ids under different names can be ground in seconds.

import { base64, concat, hex, unbase64, utf8 } from "./bytes.js";
import { checkPublic, isValid } from "./ed25519.js";
import { invalidProof, malformed, untrusted } from "./errors.js";
import { sha256 } from "./hashing.js";
import { isCompressedPoint } from "./secp256k1.js";

const MAX_NAME_SIZE = 255;
const SPACE_OR_CONTROL = /[\p{Cc}\p{Cf}\p{Cs}\p{Z}]/u;

const ALGORITHMS = {
  ed25519: { tag: Uint8Array.of(1), size: 32 },
  "ecdsa-secp256k1": { tag: concat(Uint8Array.of(0xff), utf8("ecdsa-secp256k1")), size: 33 },
};
const WITNESS_TAG = Uint8Array.of(4);

function checkName(name) {
  if (!name || name.includes("+")) throw malformed("key name is empty or holds a plus");
  if (utf8(name).length > MAX_NAME_SIZE) throw malformed("key name is too long");
  if (SPACE_OR_CONTROL.test(name)) throw malformed("key name holds a space or control character");
}

const keyId = (name, tagged) => sha256(concat(utf8(`${name}\n`), tagged)).slice(0, 4);

/** A named public key. `role` of its type: a signer, or a witness (type 0x04). */
export class Key {
  constructor(name, algorithm, publicKey, { witness = false } = {}) {
    checkName(name);
    const rules = ALGORITHMS[algorithm];
    if (publicKey.length !== rules.size) throw malformed(`${algorithm} key has another size`);
    if (algorithm === "ed25519") checkPublic(publicKey);
    else if (!isCompressedPoint(publicKey)) {
      throw malformed("secp256k1 key is not a compressed point");
    }
    const tagged = concat(witness ? WITNESS_TAG : rules.tag, publicKey);
    this.name = name;
    this.algorithm = algorithm;
    this.public = publicKey;
    this.witness = witness;
    this.keyId = hex(keyId(name, tagged));
    this.short = `${name}+${this.keyId}`;
    this.vkey = `${this.short}+${base64(tagged)}`;
    /** What tells this key from every other, whatever it is named. */
    this.material = `${algorithm}:${hex(publicKey)}`;
  }

  /** The same key in the role of a cosigner. */
  asWitness() {
    return this.witness ? this : new Key(this.name, this.algorithm, this.public, { witness: true });
  }

  /** SHA-256 of the key's bytes in groups, for people to compare. */
  get fingerprint() {
    return hex(sha256(this.public)).slice(0, 32).match(/.{4}/g).join(" ");
  }

  /** Throws InvalidProofError unless the signature is this key's on the message. */
  verify(signature, message) {
    if (this.algorithm !== "ed25519") {
      throw untrusted("this page takes Ed25519 alone", {
        rule: "page.algorithm",
        found: this.algorithm,
        wanted: "ed25519",
      });
    }
    if (signature.length !== 64) {
      throw invalidProof("signature is not 64 bytes", { found: signature.length });
    }
    if (!isValid(this.public, signature, message)) {
      throw invalidProof(`signature is not valid under ${this.short}`);
    }
  }
}

function startsWith(data, prefix) {
  return data.length >= prefix.length && prefix.every((value, at) => data[at] === value);
}

/** Splits a vkey; neither its id nor its spelling is checked yet. */
function split(vkey) {
  const parts = /^([^+]*)\+([^+]*)\+(.*)$/s.exec(vkey);
  if (parts === null) throw malformed("vkey is not <name>+<id>+<base64>");
  try {
    return { name: parts[1], tagged: unbase64(parts[3]) };
  } catch {
    throw malformed("vkey is not base64");
  }
}

function only(key, vkey, rule = null) {
  if (key.vkey !== vkey) {
    throw malformed("key id or encoding does not recompute from the key", {
      rule,
      wanted: key.vkey,
    });
  }
  return key;
}

/** Parses a signer's vkey; throws MalformedError unless it is the key's only spelling. */
export function parseKey(vkey) {
  const { name, tagged } = split(vkey);
  for (const [algorithm, { tag }] of Object.entries(ALGORITHMS)) {
    if (startsWith(tagged, tag)) {
      return only(new Key(name, algorithm, tagged.slice(tag.length)), vkey);
    }
  }
  throw untrusted("vkey is of an unsupported type", { wanted: Object.keys(ALGORITHMS) });
}

/** Parses a witness's vkey, of type 0x04. */
export function parseWitness(vkey) {
  const parts = /^([^+]*)(?:\+([^+]*)(?:\+(.*))?)?$/s.exec(vkey);
  let tagged;
  try {
    tagged = unbase64(parts?.[3] ?? "");
  } catch {
    throw malformed("vkey is not base64", { rule: "vkey" });
  }
  if (!startsWith(tagged, WITNESS_TAG)) {
    throw malformed("not a witness's vkey (type 0x04)", { rule: "vkey" });
  }
  const key = new Key(parts[1], "ed25519", tagged.slice(1), { witness: true });
  return only(key, vkey, "vkey");
}

/** Parses a vkey of a trust file: a signer's, or a witness's of the type of its own. */
export function parseAnyKey(vkey) {
  try {
    return parseKey(vkey);
  } catch (error) {
    if (error.name !== "UntrustedError") throw error;
    try {
      return parseWitness(vkey);
    } catch (other) {
      if (other.name === "MalformedError") throw error;
      throw other;
    }
  }
}

const MAX_TIME = 2n ** 63n - 1n;

/** Returns the time (BigInt seconds) inside a cosignature, unverified. */
export function cosignatureTime(signature) {
  if (signature.length !== 72) {
    throw invalidProof("a cosignature is not 72 bytes", { found: signature.length });
  }
  let time = 0n;
  for (const value of signature.subarray(0, 8)) time = (time << 8n) | BigInt(value);
  if (time > MAX_TIME) {
    throw invalidProof("a cosignature's time is beyond 2^63-1", { found: String(time) });
  }
  return time;
}

/** Verifies a witness's cosignature on a checkpoint's text (c2sp.org/tlog-cosignature, version 1). */
export function verifyCosignature(key, signature, text) {
  const time = cosignatureTime(signature);
  key.verify(signature.subarray(8), concat(utf8(`cosignature/v1\ntime ${time}\n`), text));
  return time;
}
