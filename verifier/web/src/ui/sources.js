// Files as they come, by what they hold: bundles, the reader's keys, log policy, expectations,
// policies, venue files.

import { fromUtf8, utf8 } from "../core/bytes.js";
import { decodeObject } from "../core/canonical.js";
import { malformed, usage } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { parseTrust } from "../core/trust.js";
import { VenueFile } from "../core/venue.js";
import { parseLogPolicy } from "../log/policy.js";
import { BUNDLE_LIMIT } from "../settlement/bundle.js";
import { readLedger } from "../settlement/ledger.js";
import { readReceipt, RECEIPT_LIMIT } from "../settlement/promise.js";
import { readPolicy } from "../settlement/policy.js";

export { BUNDLE_LIMIT };

/** Parses what the reader, or the page's server, says about keys. */
export const trustSource = (text, brought) => ({
  text,
  brought,
  parsed: parseTrust(text, { brought }),
});

export const logPolicySource = (text, brought) => ({
  text,
  brought,
  parsed: parseLogPolicy(utf8(text)),
});

/** Throws unless a text is 32 bytes of lower-case hex, if there is one. */
export function checkId(value, member) {
  if (value !== undefined && !/^[0-9a-f]{64}$/.test(value)) {
    throw usage("an id is 64 characters of lower-case hex", { rule: member, found: value });
  }
}

/** A file that a reader gave: {name, data}, or {name, error} where it cannot be one of these. */
export async function readFile(file) {
  const { name, size } = file;
  const refused = (why) => ({ name, error: usage(why, { rule: "file", found: size }) });
  if (size > BUNDLE_LIMIT) return refused("it is larger than any bundle");
  try {
    return { name, data: new Uint8Array(await file.arrayBuffer()) };
  } catch {
    return refused("it cannot be read; a folder is opened by “Open a folder”");
  }
}

/** Tells what a file is and reads it: {kind, ...}. */
export function classify(name, data) {
  const text = fromUtf8(data.subarray(0, 4096)) ?? fromUtf8(data) ?? "";
  const start = text.trimStart();
  if (start.startsWith("{")) return readJson(name, data);
  const whole = fromUtf8(data);
  if (whole === null) throw malformed("neither text nor JSON");
  if (/^\s*\[\[notary\]\]/m.test(whole)) return { kind: "trust", text: whole };
  if (/^(?:log|witness|group|quorum)[ \t]/m.test(whole)) return { kind: "log policy", text: whole };
  if (/^\s*policy_id\s*=/m.test(whole)) return { kind: "expect", text: whole };
  if (/^\s*(?:venues|hosts)\s*=/m.test(whole)) return { kind: "quote expect", text: whole };
  throw malformed("not a bundle, trust file, log policy or expect file");
}

const tail = (data) => fromUtf8(data.slice(-200).filter((value) => value < 128)) ?? "";

function readJson(name, data) {
  // What claims to be a bundle is refused as one: its bytes may be anything.
  const head = fromUtf8(data.subarray(0, 200000).filter((value) => value < 128)) ?? "";
  if (/^[^\n]*"type":"quotary\/ledger\/v1"\}?\n?/.test(head) && !/"logs":/.test(head)) {
    return { kind: "ledger", lines: readLedger(data) };
  }
  if (data.length <= RECEIPT_LIMIT && /"type"\s*:\s*"quotary\/signed_promise\/v1"/.test(head)) {
    return { kind: "receipt", expect: readReceipt(data) };
  }
  if (/"type":"quotary\/policy\/v1"/.test(head) && !/"logs":/.test(head)) {
    return { kind: "policy", policy: readPolicy(decodeObject(data, BUNDLE_LIMIT)) };
  }
  if (/"rest":\{/.test(head) && /"markets":\[/.test(head)) {
    const canonical = fromUtf8(data).replace(/\n$/, "");
    return {
      kind: "venue file",
      file: new VenueFile(canonical),
      hash: hashString(utf8(canonical)),
    };
  }
  const shown = /"type":"quotary\/presentation\/v1"\}?\s*$/.test(tail(data));
  return { kind: shown ? "presentation" : "bundle", data, name };
}
