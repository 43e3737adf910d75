// Statistics recomputed from the log itself: the reader chooses a time, the page reads the log, opens
// its batches with the ledger, and recomputes the trades from their bundles. It can be stopped, and
// says how much of it was checked.

import { utf8 } from "../core/bytes.js";
import { isKind, QuotaryError, usage } from "../core/errors.js";
import { CHECKPOINT_PATH, LogFiles } from "../log/files.js";
import { decodeBundle } from "../settlement/bundle.js";
import { readPolicy, settledAfter } from "../settlement/policy.js";
import { openBatches } from "../reconcile/batches.js";
import { readSpan } from "../reconcile/range.js";
import { Tally } from "../reconcile/tally.js";
import { h, section, visible } from "./dom.js";
import { checkStopped } from "./fetching.js";
import { integer } from "./format.js";
import { surveyReport } from "./survey_report.js";

/** How long a trade may take to be in the ledger, where its policy is not at hand. */
const PATIENCE_US = 300000000;
const DEFAULT_MOST = 200;

/** Microseconds of a time typed as UTC; `otherwise` for none. */
function typed(input, otherwise) {
  if (!input.value) return otherwise;
  const moment = Date.parse(`${input.value}Z`);
  if (Number.isNaN(moment)) throw usage("not a time", { rule: "span", found: input.value });
  return moment * 1000;
}

/** So many of the trades, drawn by this browser, in the order of the log. */
function drawn(trades, most) {
  if (trades.length <= most) return trades;
  const places = trades.map((_, at) => at);
  const random = crypto.getRandomValues(new Uint32Array(most));
  for (let at = 0; at < most; at += 1) {
    const other = at + (random[at] % (places.length - at));
    [places[at], places[other]] = [places[other], places[at]];
  }
  return places
    .slice(0, most)
    .sort((left, right) => left - right)
    .map((at) => trades[at]);
}

const field = (id, label, control) =>
  h("div", { class: "field" }, h("label", { for: id }, label), control);

/** Lets the browser draw and listen. */
const pause = () => new Promise((resume) => setTimeout(resume));

/** The section; `known()` gives what to verify with, `told(lines, times)` is told what was found. */
export class Survey {
  #abort = null;
  #drawnAt = 0;

  constructor(evidence, { known, told, open }) {
    Object.assign(this, { evidence, known, told, open });
    this.from = h("input", { id: "survey-from", type: "datetime-local", step: "1" });
    this.until = h("input", { id: "survey-until", type: "datetime-local", step: "1" });
    this.most = h("input", { id: "survey-most", type: "number", min: "0", max: "10000" });
    this.most.value = String(DEFAULT_MOST);
    this.go = h("button", { type: "submit", class: "primary" }, "Read the log");
    this.halt = h("button", { type: "button", disabled: true, click: () => this.#abort?.abort() });
    this.halt.append("Stop");
    this.progress = h("progress", { "aria-label": "How far it is", max: "1", value: "0" });
    this.status = h("p", { class: "quiet", role: "status" });
    this.result = h("div", { class: "survey" });
    this.element = this.#section();
    this.#show(false);
  }

  #section() {
    const submit = (event) => {
      event.preventDefault();
      this.run();
    };
    return section(
      "Statistics from the log",
      h(
        "p",
        {},
        "Choose a time, or leave it empty for all of it. The log is read and held against its signature, its trades against the ledger, and each trade’s bundle is fetched and recomputed here.",
      ),
      h(
        "form",
        { class: "row", submit },
        field("survey-from", "From (UTC)", this.from),
        field("survey-until", "Until (UTC)", this.until),
        field("survey-most", "Trades to recompute, at most", this.most),
        h("p", { class: "buttons" }, this.go, this.halt),
      ),
      this.progress,
      this.status,
      this.result,
    );
  }

  async run() {
    this.#abort = new AbortController();
    this.#show(true);
    this.result.replaceChildren();
    try {
      await this.#survey(this.#abort.signal);
    } catch (error) {
      this.#say("");
      this.result.replaceChildren(...refusal(error));
    }
    this.#show(false);
    this.#abort = null;
  }

  async #survey(signal) {
    const known = this.known();
    const fromUs = typed(this.from, 0);
    const untilUs = typed(this.until, Infinity);
    const most = Math.min(Math.max(Number(this.most.value) || 0, 0), 10000);
    this.#say("Reading the log…");
    const read = (path) => {
      checkStopped(signal);
      return this.evidence.log(path, signal);
    };
    const signed = known.logs.openLog(new TextDecoder().decode(await read(CHECKPOINT_PATH)));
    const files = new LogFiles(read, signed.checkpoint);
    const step = (at, all) => this.#step(at, all, (now) => `${now} entries of the log read`);
    const span = await readSpan(files, { fromUs, untilUs, step });
    const { first, last } = span;
    const lines = first === null ? [] : await this.evidence.ledger({ first, last, signal });
    const opened = openBatches(lines, span, span.headUs - (await this.#patience(lines, signal)));
    this.told(lines, new Map([...span.batches].map(([at, batch]) => [at, batch.logged_us])));
    const promises = await this.evidence.promises({ fromUs, untilUs, signal });
    const tally = new Tally(known, files, promises);
    opened.findings.forEach((finding) => tally.find(finding));
    const chosen = this.evidence.hasBundles ? drawn(opened.trades, most) : [];
    const found = { signed, span, opened, tally, chosen, known, stopped: false };
    try {
      await this.#recompute(found, signal);
    } catch (error) {
      if (error.rule !== "stopped") throw error;
      found.stopped = true;
    }
    this.#say(found.stopped ? "Stopped." : "Done.");
    this.result.replaceChildren(...surveyReport(found, this.open));
  }

  /** How long after its batch a trade must be in the ledger, by the policy of the first bundle. */
  async #patience(lines, signal) {
    if (!lines.length || !this.evidence.hasBundles) return PATIENCE_US;
    try {
      const bundle = decodeBundle(await this.evidence.bundle(lines[0].trade, signal));
      const policy = readPolicy(bundle.policy.entry.document);
      return policy.policy_id === lines[0].leaf.policy_id ? settledAfter(policy) : PATIENCE_US;
    } catch (error) {
      if (!(error instanceof QuotaryError) || error.rule === "stopped") throw error;
      return PATIENCE_US; // what is wrong with the bundle is told when the trade is recomputed
    }
  }

  async #recompute({ chosen, tally }, signal) {
    for (const [at, trade] of chosen.entries()) {
      checkStopped(signal);
      await tally.take(trade, () => this.evidence.bundle(trade.line.trade, signal));
      const told = (now) => `${now} of ${integer(chosen.length)} trades recomputed`;
      await this.#step(at + 1, chosen.length, told);
    }
  }

  /** Shows how far it is, a few times a second. */
  async #step(at, all, told) {
    const now = performance.now();
    if (now - this.#drawnAt < 100 && at < all) return;
    this.#drawnAt = now;
    this.progress.max = Math.max(all, 1);
    this.progress.value = at;
    this.#say(told(integer(at)));
    await pause();
  }

  #say(text) {
    this.status.textContent = text;
  }

  #show(running) {
    // Its place is kept: nothing moves when it comes and goes.
    this.progress.classList.toggle("idle", !running);
    this.go.disabled = running;
    this.halt.disabled = !running;
  }
}

function refusal(error) {
  if (error.rule === "stopped") {
    return [
      h("p", { class: "amber" }, "Stopped before the log was read: nothing can be said of it."),
    ];
  }
  const named = error instanceof QuotaryError;
  const setUp = named && isKind(error, "UsageError", "UnavailableError");
  const detail = named ? visible(error.detail, 400) : `the page failed: ${visible(error, 200)}`;
  return [
    h(
      "p",
      { class: setUp ? "amber" : "refused", role: "alert" },
      h("strong", {}, setUp ? "Nothing was decided. " : "Refused. "),
      `${detail} (${visible(error.rule ?? "–", 80)})`,
    ),
  ];
}

/** What to verify with, of what the page knows; throws where something is missing. */
export function surveyKnown({ trust, logPolicy, expect, venues }) {
  if (trust === null || logPolicy === null) {
    throw usage("no keys are known: open the trust file and log policy of whom you believe", {
      rule: "trust",
    });
  }
  const { policy_id, insecure_allow_development: development } = expect;
  return {
    trust: trust.parsed,
    logs: logPolicy.parsed,
    logPolicy: utf8(logPolicy.text),
    expect: {
      ...(policy_id && { policy_id }),
      ...(development && { insecure_allow_development: development }),
    },
    venueFiles: venues,
    brought: trust.brought || logPolicy.brought,
  };
}
