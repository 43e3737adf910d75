// Log policies (c2sp.org/tlog-policy): which logs, and which witnesses suffice.

import { fromUtf8 } from "../core/bytes.js";
import { incomplete, isKind, malformed, QuotaryError } from "../core/errors.js";
import { parseKey, parseWitness } from "../core/keys.js";
import { openCheckpoint } from "./checkpoint.js";

const MAX_POLICY_SIZE = 64 * 1024;
const MAX_DEFINITIONS = 64;

/** Known logs, witnesses and groups by name, and the quorum's name (null: none). */
export class LogPolicy {
  constructor(logs, witnesses, groups, quorum) {
    this.logs = logs;
    this.witnesses = witnesses;
    this.groups = groups;
    this.quorum = quorum;
  }

  /** The witness's key of a vkey. */
  witnessOf(vkey) {
    return [...this.witnesses.values()].find((key) => key.vkey === vkey);
  }

  /** Opens a checkpoint's note, whoever has cosigned it. */
  openLog(text) {
    return openCheckpoint(text, { logs: this.logs, witnesses: [...this.witnesses.values()] });
  }

  /** Opens a checkpoint's note and checks the quorum. */
  open(text) {
    return this.check(this.openLog(text));
  }

  /** Checks the quorum over an opened checkpoint. */
  check(signed) {
    let quorumTime = null;
    if (this.quorum !== null) {
      quorumTime = this.#time(signed.times);
      if (quorumTime === null) {
        throw incomplete("too few witnesses have cosigned the checkpoint", {
          rule: "log.quorum",
          found: [...signed.times.keys()].map((vkey) => vkey.split("+")[0]).sort(),
          wanted: this.quorum,
        });
      }
    }
    return { signed, quorumTime };
  }

  #time(times) {
    const found = new Map();
    for (const [name, key] of this.witnesses) {
      if (times.has(key.vkey)) found.set(name, times.get(key.vkey));
    }
    for (const [name, group] of this.groups) {
      const counted = group.members.filter((member) => found.has(member));
      const ordered = counted
        .map((member) => found.get(member))
        .sort((left, right) => (left < right ? -1 : left > right ? 1 : 0));
      if (ordered.length >= group.count) found.set(name, ordered[group.count - 1]);
    }
    return found.get(this.quorum) ?? null;
  }
}

/** Parses a policy's bytes; throws MalformedError with the line's number. */
export function parseLogPolicy(data) {
  if (data.length > MAX_POLICY_SIZE) {
    throw malformed(`policy is larger than ${MAX_POLICY_SIZE} bytes`, { rule: null });
  }
  const text = fromUtf8(data);
  if (text === null || /[\0-\x08\x0b-\x1f\x7f]/.test(text) || !text.endsWith("\n")) {
    throw malformed("a policy is lines of text", { rule: "log_policy" });
  }
  const reader = new Reader();
  text.split("\n").forEach((line, at) => {
    const words = line.replace(/^[ \t]+|[ \t]+$/g, "").split(/[ \t]+/);
    if (words[0] === "" || words[0].startsWith("#")) return;
    try {
      reader.read(words);
    } catch (error) {
      if (!isKind(error, "MalformedError", "UntrustedError")) throw error;
      throw new QuotaryError(error.name, `line ${at + 1}: ${error.detail}`, { rule: "log_policy" });
    }
  });
  return reader.finish();
}

class Reader {
  #logs = [];
  #witnesses = new Map();
  #groups = new Map();
  #members = new Set();
  #quorum = null;

  read([word, ...rest]) {
    if (word === "log" && (rest.length === 1 || rest.length === 2)) this.#log(rest[0]);
    else if (word === "witness" && (rest.length === 2 || rest.length === 3)) {
      this.#witness(rest[0], rest[1]);
    } else if (word === "group" && rest.length > 2) this.#group(...rest);
    else if (word === "quorum" && rest.length === 1) {
      if (this.#quorum !== null) throw malformed("a second quorum");
      if (rest[0] !== "none") this.#checkKnown(rest[0]);
      [this.#quorum] = rest;
    } else throw malformed("not a log, witness, group or quorum line", { found: word });
  }

  finish() {
    if (this.#quorum === null) {
      throw malformed("a policy has a quorum line", { rule: "log_policy" });
    }
    const quorum = this.#quorum === "none" ? null : this.#quorum;
    return new LogPolicy(this.#logs, this.#witnesses, this.#groups, quorum);
  }

  #log(vkey) {
    const key = parseKey(vkey);
    if (key.algorithm !== "ed25519") throw malformed("logs sign with Ed25519 only");
    if (this.#logs.some((log) => log.material === key.material)) {
      throw malformed("a log's key stands here twice");
    }
    checkRoom(this.#logs.length);
    this.#logs.push(key);
  }

  #witness(name, vkey) {
    const key = parseWitness(vkey);
    if ([...this.#witnesses.values()].some((other) => other.material === key.material)) {
      throw malformed("a witness's key stands here twice");
    }
    this.#checkNew(name);
    checkRoom(this.#witnesses.size);
    this.#witnesses.set(name, key);
  }

  #group(name, wanted, ...members) {
    this.#checkNew(name);
    for (const member of members) {
      this.#checkKnown(member);
      if (this.#members.has(member)) throw malformed("a name is a member twice");
      this.#members.add(member);
    }
    let count = wanted === "all" ? members.length : 1;
    if (wanted !== "all" && wanted !== "any") {
      if (!/^[1-9][0-9]{0,3}$/.test(wanted) || Number(wanted) > members.length) {
        throw malformed("not all, any, or a number of the members");
      }
      count = Number(wanted);
    }
    checkRoom(this.#groups.size);
    this.#groups.set(name, { count, members });
  }

  #checkNew(name) {
    if (name === "none" || this.#witnesses.has(name) || this.#groups.has(name)) {
      throw malformed("the name is defined already");
    }
  }

  #checkKnown(name) {
    if (!this.#witnesses.has(name) && !this.#groups.has(name)) {
      throw malformed("the name is not defined above");
    }
  }
}

function checkRoom(definitions) {
  if (definitions >= MAX_DEFINITIONS) throw malformed("too many definitions of one kind");
}
