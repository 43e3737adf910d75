// What trades came to that were recomputed here, each from its own bundle: in memory that grows with
// neither bundles nor slots (attestation/settlement, verifier/reconcile_trades.py).

import { equal, utf8 } from "../core/bytes.js";
import { incomplete, invalidProof, QuotaryError } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { parseCheckpoint } from "../log/checkpoint.js";
import { parseNote } from "../log/note.js";
import { decodeBundle } from "../settlement/bundle.js";
import { checkLine } from "../settlement/ledger.js";
import { judgedSlots, voidFault } from "../settlement/outcome.js";
import { recompute } from "../settlement/recompute.js";

const MOST_FINDINGS = 1000;
const MOST_SLOTS = 200000;
const NO_SETTLEMENT = hashString(new Uint8Array(0));

/** Whether a line says itself that the promise of its trade was broken: refunded without a bundle. */
const isBroken = (line) => line.outcome === "void" && line.settlement === NO_SETTLEMENT;

export class Tally {
  #slots = new Set();

  /**
   * `known` as `recompute` takes it; `files` is the log that was read, to hold bundles against;
   * `promises` by trade tell when orders came.
   */
  constructor(known, files, promises = new Map()) {
    this.promises = promises;
    this.known = known;
    this.files = files;
    this.checked = 0;
    this.equal = 0;
    this.pending = 0;
    this.otherPolicy = 0;
    this.outcomes = { up: 0, down: 0, tie: 0, void: 0 };
    this.voids = { venue: 0, prover: 0, notary: 0 };
    this.fees = 0;
    this.findings = [];
    this.found = 0;
    this.gaps = new Map();
    this.slots = 0;
    this.delays = [];
    this.waits = [];
  }

  find(finding) {
    this.found += 1;
    if (this.findings.length < MOST_FINDINGS) this.findings.push(finding);
  }

  /** Recomputes one trade; `fetched` is a function that resolves to its bundle's bytes. */
  async take({ line, loggedUs }, fetched) {
    const { policy_id: policyId } = this.known.expect;
    if (policyId !== undefined && line.leaf.policy_id !== policyId) {
      this.otherPolicy += 1;
      return;
    }
    const place = { entry: line.entry, trade: line.trade };
    if (isBroken(line)) {
      this.checked += 1;
      this.outcomes.void += 1;
      this.voids.prover += 1;
      this.fees += 1;
      this.find({ kind: "broken_promise", detail: "logged later than promised", ...place });
      return;
    }
    try {
      await this.#settle(line, loggedUs, await fetched());
    } catch (error) {
      // That the reader stopped, or that the log proves nothing, is no trade's doing.
      if (!(error instanceof QuotaryError) || ["stopped", "log.root"].includes(error.rule)) {
        throw error;
      }
      const { detail, rule } = error;
      if (rule === "tally.newer") this.pending += 1;
      else this.find({ kind: kindOf(error), detail, rule, ...place });
    }
    this.checked += 1;
  }

  async #settle(line, loggedUs, data) {
    const bundle = decodeBundle(data);
    await this.#checkLog(bundle.logs[0]);
    const { expect } = this.known;
    const result = recompute(bundle, {
      ...this.known,
      expect: { ...expect, policy_id: line.leaf.policy_id, trade: line.trade },
    });
    for (const [member, found, wanted] of [
      ["entry", bundle.batch, line.entry],
      ["salt", bundle.trade.salt, line.salt],
      ["logged_us", result.terms.logged_us, loggedUs],
    ]) {
      if (found !== wanted) {
        throw invalidProof(`the bundle’s ${member} is not the ledger’s`, {
          rule: `ledger.${member}`,
        });
      }
    }
    checkLine(line, result);
    this.#count(result);
  }

  /** The bundle's checkpoint is the beginning of the log that was read. */
  async #checkLog(log) {
    if (log === undefined) throw incomplete("a bundle of no log", { rule: "logs" });
    const { origin, size, root } = parseCheckpoint(parseNote(utf8(log.checkpoint)).textBytes);
    const { head } = this.files;
    if (size > head.size) throw incomplete("newer than what was read", { rule: "tally.newer" });
    if (origin === head.origin && equal((await this.files.prefix(size)).root(), root)) return;
    throw invalidProof("the bundle’s checkpoint is not of the log that was read", {
      rule: "log.forked",
    });
  }

  #count(result) {
    const { settlement, terms, policy } = result;
    this.equal += 1;
    this.outcomes[settlement.outcome] += 1;
    const fault = voidFault(settlement);
    if (fault !== null) this.voids[fault] += 1;
    if (settlement.fee) this.fees += 1;
    this.delays.push(settlement.open_us - terms.logged_us);
    const promised = this.promises.get(result.leaf.trade);
    if (promised !== undefined) {
      // An order's promise is to log it so long after it came (S1).
      this.waits.push(settlement.open_us - (promised.logged_by_us - policy.log_by_us));
    }
    const judged = judgedSlots(policy, terms, settlement);
    for (const { header, slot, fields } of result.slots) {
      // A slot belongs to many trades, and is one.
      if (!judged.has(slot.slot_us) || this.#slots.has(header.id)) continue;
      if (this.#slots.size >= MOST_SLOTS) return;
      this.#slots.add(header.id);
      this.slots += 1;
      for (const [venue, field] of fields) this.#countField(venue, field);
    }
  }

  #countField(venue, field) {
    const row = this.gaps.get(venue) ?? { slots: 0, venue: 0, prover: 0, notary: 0 };
    row.slots += 1;
    if (field.gap) row[field.fault] += 1;
    this.gaps.set(venue, row);
  }
}

function kindOf({ name, rule }) {
  if (rule === "log.forked") return "forked_log";
  if (name === "OutcomeMismatchError") return "different";
  return name === "UnavailableError" ? "not_shown" : "refused";
}
