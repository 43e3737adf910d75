// Settlement bundles: all that a trade's outcome follows from, in one document (S10).

import { decodeObject } from "../core/canonical.js";
import { readAttestation } from "../core/document.js";
import * as s from "../core/schema.js";
import { readTradeProof } from "./trade.js";

export const BUNDLE_LIMIT = 16 * 1024 * 1024;

const readIncluded = s.document("includedentry", null, {
  index: s.count,
  entry: s.object,
  proof: s.arrayOf(s.hex32),
});

const readBundleSession = s.document("bundlesession", null, {
  attestation: readAttestation,
  entry: readIncluded,
});

const readBundleLog = s.document("bundlelog", null, {
  notary: s.text,
  start: s.string,
  frontier: s.arrayOf(s.hex32),
  entries: s.arrayOf(s.object),
  checkpoint: s.string,
  feed: readIncluded,
  sessions: s.arrayOf(readBundleSession),
});

const readBundle = s.document("quotary/settlement/v1", "quotary/settlement/v1", {
  policy: readIncluded,
  batch: s.count,
  trade: readTradeProof,
  logs: s.arrayOf(readBundleLog),
  slots: s.arrayOf(readAttestation),
  messages: s.arrayOf(s.bytes),
  outcome: s.oneOf("up", "down", "tie", "void"),
  settlement: s.hashText,
});

/** Decodes a bundle's bytes. */
export const decodeBundle = (data) => readBundle(decodeObject(data, BUNDLE_LIMIT));
