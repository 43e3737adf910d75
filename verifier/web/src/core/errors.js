// The error tree of attestation/errors.py: every failure has one kind, named after who is at fault.

const KINDS = {
  UsageError: "usage",
  MalformedError: "malformed",
  InvalidProofError: "invalid_proof",
  UntrustedError: "untrusted",
  StaleError: "stale",
  OutcomeMismatchError: "outcome_mismatch",
  IncompleteError: "incomplete",
  AuditFinding: "finding",
  ExpectationError: "expectation",
  UnavailableError: "unavailable",
};

/** A failure on purpose. `rule` names the rule that failed; `found` and `wanted` what was compared. */
export class QuotaryError extends Error {
  constructor(kind, detail, { rule = null, found = null, wanted = null } = {}) {
    super(detail);
    this.name = kind;
    this.slug = KINDS[kind];
    this.detail = detail;
    this.rule = rule;
    this.found = found;
    this.wanted = wanted;
  }
}

const maker = (kind) => (detail, parts) => new QuotaryError(kind, detail, parts);

export const usage = maker("UsageError");
export const malformed = maker("MalformedError");
export const invalidProof = maker("InvalidProofError");
export const untrusted = maker("UntrustedError");
export const stale = maker("StaleError");
export const mismatch = maker("OutcomeMismatchError");
export const incomplete = maker("IncompleteError");
export const finding = maker("AuditFinding");
export const expectation = maker("ExpectationError");
export const unavailable = maker("UnavailableError");

/** Whether an error is one of the named kinds. */
export const isKind = (error, ...kinds) =>
  error instanceof QuotaryError && kinds.includes(error.name);

/** Runs `step`; an error that names no rule gets this one. */
export function naming(rule, step) {
  try {
    return step();
  } catch (error) {
    if (error instanceof QuotaryError) error.rule ??= rule;
    throw error;
  }
}
