// The verdict: what happened, by how much, and who says so; or why a bundle is refused.

import { moved, noise } from "./derived.js";
import { code, h, visible, when } from "./dom.js";
import { distance, duration, grouped, list, percentage, plural, points } from "./format.js";

/** A warning that is more than one. */
export const FORKED = "This is not the log that this browser saw before. See “Log and keys”.";
export const REKEYED =
  "A log of this name had another key when this browser saw it. See “Log and keys”.";

const WORDS = { up: "UP", down: "DOWN", tie: "TIE", void: "VOID" };

function ended({ leaf, settlement }) {
  const side = leaf.side.toUpperCase();
  const { outcome, fee } = settlement;
  if (outcome === "void") {
    return `The bet on ${side} is void: the stake returns${fee ? ", and the operator pays the fee" : ""}.`;
  }
  if (outcome === "tie") return `The bet on ${side} is a tie: the stake returns.`;
  return `The bet on ${side} ${outcome === leaf.side ? "won" : "lost"}.`;
}

const WENT = { up: "rose", down: "fell" };

/** The same in per cent, for whom basis points say nothing. */
function went({ settlement }) {
  const by = moved(settlement);
  if (by === null || !(settlement.outcome in WENT)) return "";
  const share = percentage(by).replace("−", "");
  return ` Between open and close the venues’ prices ${WENT[settlement.outcome]} by ${share}, by their median.`;
}

function headline(result) {
  const by = moved(result.settlement);
  const { outcome } = result.settlement;
  const word = h("strong", { class: "outcome" }, WORDS[outcome]);
  if (outcome === "void" || by === null) return [word];
  if (outcome === "tie") return [word, " at exactly the open"];
  return [word, ` by ${distance(by)}`];
}

function noiseText({ settlement }) {
  if (settlement.outcome === "void") return sentence(visible(settlement.reason ?? ""));
  const found = noise(settlement);
  return found === null
    ? "No venue counts by prices that were not withheld."
    : `Noise of this rule: ${points(found, { sign: false })}. Half of the venues lie that near to the result or nearer; a result below it is as much chance as market.`;
}

function witnesses(result) {
  const trusted = new Map(result.slots.map((slot) => [slot.notary, slot.trusted]));
  const operators = [...new Set([...trusted.values()].map((entry) => entry.operator))];
  const notaries = [...trusted.keys()].map((name) => visible(name, 80));
  const count = result.policy.notaries.length;
  if (!operators.length) return "No slot was signed for this outcome.";
  const who = `Witnessed by ${plural(notaries.length, "notary", "notaries")}: ${list(notaries)}, run by ${list(operators.map((name) => visible(name, 120)))}.`;
  return count === 1 ? `${who} Single notary: this checks the arithmetic, not the operator.` : who;
}

function cosigners(result) {
  const names = new Set();
  for (const { signed } of result.witnessed.values()) {
    for (const vkey of signed.times.keys()) names.add(visible(vkey.split("+")[0], 80));
  }
  return names.size
    ? `The log was cosigned by ${list([...names].sort())}.`
    : "No witness has cosigned the log.";
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
const wide = (name, ...value) =>
  h("div", { class: "wide" }, h("dt", {}, name), h("dd", {}, ...value));

function facts({ leaf, terms, settlement, outcome }) {
  return h(
    "dl",
    { class: "facts" },
    fact("Market", visible(leaf.market, 40)),
    fact(
      "Bet",
      `${leaf.side.toUpperCase()}, stake ${grouped(leaf.stake)}, ${duration(leaf.duration_us)}`,
    ),
    fact("In the log", when(terms.logged_us)),
    fact("Opened", when(settlement.open_us)),
    fact("Closed", when(settlement.close_us + settlement.slid_us)),
    fact(
      "Display price, decides nothing",
      outcome.display_price === undefined ? "–" : grouped(outcome.display_price),
    ),
    wide("Trade", code(leaf.trade)),
  );
}

/** The banner of a bundle that was recomputed; `warnings` are what a reader should know first. */
export function acceptedBanner(result, warnings, took, simulated) {
  return h(
    "section",
    { class: "banner", "aria-labelledby": "verdict" },
    h(
      "p",
      { class: simulated ? "kicker amber" : "kicker" },
      simulated
        ? "Simulated venues · the claim follows from the log"
        : "The claim follows from the log",
    ),
    h("h1", { id: "verdict", tabindex: "-1" }, headline(result)),
    h("p", { class: "lead" }, `${ended(result)}${went(result)}`),
    h("p", {}, noiseText(result)),
    h("p", {}, `${witnesses(result)} ${cosigners(result)}`),
    warnings.map((text) => h("p", { class: text === FORKED ? "refused" : "amber" }, text)),
    facts(result),
    h(
      "p",
      { class: "quiet" },
      `Recomputed in this browser in ${Math.max(1, Math.round(took))} ms. Nothing was sent anywhere.`,
    ),
  );
}

const KINDS = {
  usage: "Not set up",
  malformed: "Not the format",
  invalid_proof: "A proof does not hold",
  untrusted: "A key is not trusted",
  stale: "Outside the times asked for",
  outcome_mismatch: "The claim does not follow",
  incomplete: "Something is missing",
  finding: "The log shows misbehaviour",
  expectation: "Not what was agreed on",
  unavailable: "Could not be fetched",
};

/** What a refusal means for someone who has never read the code. */
const MEANS = {
  malformed:
    "The file is damaged, or made by something that does not keep to the format. Nothing in it was believed.",
  invalid_proof:
    "Something in it was changed, or does not belong to the rest: a signature or a hash does not fit.",
  untrusted: "It is signed by a key that your files do not name. It may be a stranger’s.",
  stale: "What it holds was signed, logged or witnessed outside of the times that count.",
  outcome_mismatch:
    "The prices that were signed and logged lead to another outcome than the one claimed.",
  incomplete: "Something that the outcome rests on was left out, so that it cannot be told.",
  finding: "Whoever keeps the log has done what the log’s rules forbid, and this file shows it.",
  expectation: "It may hold, but it is of something else than you agreed to or asked for.",
};

const SIMULATED =
  "Is this from a demonstration, whose venues are simulated? Then allow simulated venues under “Your keys, and what you agreed to”, or in your expect file. Of real money it must stay refused.";

const shownValue = (value) =>
  typeof value === "string" ? visible(value, 300) : visible(JSON.stringify(value), 300);

/** What a refusal says first. */
function refusalTitle(error) {
  if (error.rule !== "outcome.outcome") return KINDS[error.slug];
  const [found, wanted] = [WORDS[error.found], WORDS[error.wanted]];
  return `Claimed ${found}, but ${wanted} follows`;
}

/**
 * The banner of a refusal, with the rule and what was compared; `beside` a verdict that stands on the
 * same page.
 */
export function refusedBanner(error, name, beside = false) {
  const id = beside ? "trouble" : "verdict";
  const rows = [(name.length > 40 ? wide : fact)("What", name), fact("Rule", code(error.rule ?? "–"))];
  for (const member of ["found", "wanted"]) {
    const value = error[member];
    if (value !== null && value !== undefined) {
      rows.push(wide(member === "found" ? "Found" : "Must be", code(shownValue(value), 400)));
    }
  }
  const setUp = ["usage", "unavailable"].includes(error.slug);
  return h(
    "section",
    { class: setUp ? "banner" : "banner refusal", "aria-labelledby": id, role: "alert" },
    h("p", { class: "kicker" }, setUp ? "Nothing was decided" : "Refused"),
    h(beside ? "h2" : "h1", { id, tabindex: "-1" }, refusalTitle(error)),
    h("p", { class: "lead" }, sentence(visible(error.detail, 400))),
    error.slug in MEANS ? h("p", {}, MEANS[error.slug]) : null,
    error.rule === "session.address" ? h("p", { class: "amber" }, SIMULATED) : null,
    h("dl", { class: "facts" }, rows),
    setUp
      ? null
      : h("p", { class: "quiet" }, "Do not rely on this bundle. Save it: it may be evidence."),
  );
}

const sentence = (text) =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
