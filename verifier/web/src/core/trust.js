// Which keys a reader believes, for what and when, as attestation/trust.py.

import { MAX_INTEGER } from "./canonical.js";
import { isKind, malformed, untrusted, usage } from "./errors.js";
import { parseAnyKey } from "./keys.js";
import { utcSeconds } from "./quote.js";
import { readToml } from "./toml.js";

const ROLES = ["attest", "log", "witness"];
const REQUIRED = ["name", "operator", "vkey", "role", "valid_from", "valid_until"];
const RFC3339 =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?Z$/;
const NOT_ONE_LINE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Parses an RFC 3339 time in UTC, ending in `Z`, to microseconds of the epoch. */
export function parseTime(text) {
  const match = RFC3339.exec(text);
  const seconds = match === null ? null : utcSeconds(...match.slice(1, 7).map(Number));
  if (seconds === null || seconds < 0) {
    throw malformed("not an RFC 3339 time ending in Z", { found: text.slice(0, 40) });
  }
  return seconds * 1000000 + Number((match[7] ?? "").padEnd(6, "0"));
}

/** One key, its operator and role, and when it is believed. `brought`: by the page, not the reader. */
export function trustedKey(entry) {
  const { name, operator, key, role, validFromUs, validUntilUs, revokedAtUs = null } = entry;
  if (name !== key.name) {
    throw usage("name differs from its vkey's", { rule: "name", found: name, wanted: key.name });
  }
  const length = [...operator].length;
  if (length === 0 || length > 256 || NOT_ONE_LINE.test(operator)) {
    throw usage("operator is not one line of text", { rule: "operator" });
  }
  if (!ROLES.includes(role)) throw usage("unknown role", { rule: "role", found: role });
  if (role !== "witness" && key.witness) {
    throw usage("a key of type 04 is a witness's", { rule: "vkey", found: role });
  }
  if (role !== "attest" && key.algorithm !== "ed25519") {
    throw usage("logs and witnesses sign with Ed25519 only", { rule: "vkey" });
  }
  for (const [member, value] of [
    ["valid_from", validFromUs],
    ["valid_until", validUntilUs],
    ["revoked_at", revokedAtUs ?? 0],
  ]) {
    if (value > MAX_INTEGER) throw usage("out of range", { rule: member });
  }
  if (validFromUs >= validUntilUs) {
    throw usage("valid_until is not after valid_from", { rule: "valid_until" });
  }
  const brought = entry.brought ?? false;
  return { name, operator, key, role, validFromUs, validUntilUs, revokedAtUs, brought };
}

/** The keys of a trust file. No two share name and id, one key has one name, one name one operator. */
export class Trust {
  #byShort = new Map();

  constructor(keys, logPolicyFile = null) {
    const names = new Map();
    const operators = new Map();
    this.keys = keys;
    this.logPolicyFile = logPolicyFile;
    this.witnesses = new Map();
    for (const entry of keys) {
      const { key, name, operator } = entry;
      if (this.#byShort.has(key.short)) {
        throw usage("two entries have the same name and key id", { found: key.short });
      }
      if ((names.get(key.material) ?? name) !== name) {
        throw usage("one key has two names", { rule: "vkey", found: name });
      }
      if ((operators.get(name) ?? operator) !== operator) {
        throw usage(`${name} has two operators`, { rule: "operator", found: operator });
      }
      names.set(key.material, name);
      operators.set(name, operator);
      this.#byShort.set(key.short, entry);
    }
    for (const entry of keys) {
      if (entry.role !== "witness") continue;
      const key = entry.key.asWitness();
      if (this.witnesses.has(key.vkey)) {
        throw usage("a witness's key stands here twice", { rule: "vkey", found: key.vkey });
      }
      this.witnesses.set(key.vkey, { ...entry, key });
    }
  }

  /** The entry of `<name>+<8 hex>`, whatever it is worth. */
  get(short) {
    return this.#byShort.get(short);
  }

  /** Resolves `<name>+<8 hex>` to a key valid for `role` at a time; throws UntrustedError. */
  find(short, { role, atUs, witnessedUs = null }) {
    const entry = this.#byShort.get(short);
    if (entry === undefined) {
      throw untrusted("the key is not in the trust file", { rule: "trust.unknown", found: short });
    }
    if (entry.role !== role) {
      throw untrusted(`${short} is trusted in another role`, {
        rule: "trust.role",
        found: entry.role,
        wanted: role,
      });
    }
    if (atUs < entry.validFromUs) {
      throw untrusted(`${short} was not valid yet`, {
        rule: "trust.valid_from",
        found: atUs,
        wanted: entry.validFromUs,
      });
    }
    if (atUs >= entry.validUntilUs) {
      throw untrusted(`${short} had expired`, {
        rule: "trust.valid_until",
        found: atUs,
        wanted: entry.validUntilUs,
      });
    }
    const { revokedAtUs } = entry;
    if (revokedAtUs !== null && (witnessedUs === null || witnessedUs > revokedAtUs)) {
      throw untrusted(`${short} is revoked: only a log can prove that it signed before`, {
        rule: "trust.revoked_at",
        found: atUs,
        wanted: revokedAtUs,
      });
    }
    return entry;
  }

  /** Who runs the notary of that name. */
  operatorOf(name) {
    const entry = this.keys.find((one) => one.name === name);
    if (entry === undefined) {
      throw untrusted("no notary of that name is in the trust file", {
        rule: "trust.unknown",
        found: name,
      });
    }
    return entry.operator;
  }

  /** The entries of the log of that origin; revoked ones too. */
  logsOf(origin) {
    return this.keys.filter((entry) => entry.role === "log" && entry.name === origin);
  }
}

/** Parses a trust file (text); throws UsageError for anything wrong in it. */
export function parseTrust(text, { brought = false } = {}) {
  const table = readToml(text);
  checkMembers(table, [], ["notary", "log_policy"], "trust file");
  const entries = table.notary ?? [];
  if (!Array.isArray(entries) || entries.some((item) => !isTable(item))) {
    throw usage("notary is not an array of tables", { rule: "notary" });
  }
  const policy = table.log_policy ?? {};
  if (!isTable(policy)) throw usage("log_policy is not a table", { rule: "log_policy" });
  checkMembers(policy, [], ["file"], "log_policy");
  const keys = entries.map((item, at) => readEntry(item, at + 1, brought));
  const file = policy.file === undefined ? null : textOf(policy, "file");
  return new Trust(keys, file);
}

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function readEntry(table, number, brought) {
  const where = `notary entry ${number}`;
  checkMembers(table, REQUIRED, ["revoked_at"], where);
  try {
    return trustedKey({
      key: parseAnyKey(textOf(table, "vkey")),
      name: textOf(table, "name"),
      operator: textOf(table, "operator"),
      role: textOf(table, "role"),
      validFromUs: time(table, "valid_from"),
      validUntilUs: time(table, "valid_until"),
      revokedAtUs: table.revoked_at === undefined ? null : time(table, "revoked_at"),
      brought,
    });
  } catch (error) {
    if (!isKind(error, "UsageError", "MalformedError", "UntrustedError")) throw error;
    throw usage(`${where}: ${error.detail}`, {
      rule: error.rule ?? "vkey",
      found: error.found,
      wanted: error.wanted,
    });
  }
}

function checkMembers(table, required, possible, where) {
  const missing = required.filter((name) => table[name] === undefined);
  if (missing.length) throw usage(`${where} lacks members`, { rule: missing[0], found: missing });
  const unknown = Object.keys(table)
    .filter((name) => !required.includes(name) && !possible.includes(name))
    .sort();
  if (unknown.length) {
    throw usage(`${where} has unknown members`, { rule: unknown[0], found: unknown });
  }
}

function textOf(table, member) {
  if (typeof table[member] !== "string") throw usage(`${member} is not a string`, { rule: member });
  return table[member];
}

function time(table, member) {
  const value = table[member];
  try {
    if (typeof value === "string") return parseTime(value);
    if (value?.time !== undefined) return parseTime(value.time);
  } catch (error) {
    throw usage(`${member} is ${error.detail}`, { rule: member, found: error.found });
  }
  throw usage(`${member} is not a date and time in UTC (Z)`, { rule: member });
}
