// Where ledger, bundles and log are: at the page's own server, or in a folder of the reader's. Either
// gives bytes to verify, and is believed in nothing.

import { fromUtf8 } from "../core/bytes.js";
import { unavailable } from "../core/errors.js";
import { CHECKPOINT_PATH, sizeLimit } from "../log/files.js";
import { BUNDLE_LIMIT } from "../settlement/bundle.js";
import { readLedger } from "../settlement/ledger.js";
import { readPromises } from "../settlement/promise.js";
import { fetchFile, fetchLedger, fetchParts, fetchPromises, joined } from "./fetching.js";

const LEDGER_LIMIT = 64 * 1024 * 1024;

/** What a permalink names. */
export class ServedEvidence {
  constructor({ ledger, bundles, parts, log, promises }) {
    Object.assign(this, { ledgerAt: ledger, bundlesAt: bundles, partsAt: parts, logAt: log });
    this.promisesAt = promises;
    this.hasLog = log !== undefined;
    this.hasBundles = bundles !== undefined;
  }

  ledger(span = {}) {
    return fetchLedger(this.ledgerAt, span);
  }

  bundle(trade, signal = null) {
    const address = this.bundlesAt.replaceAll("{trade}", trade);
    if (this.partsAt !== undefined) return fetchParts(address, this.partsAt, signal);
    return fetchFile(address, { limit: BUNDLE_LIMIT, signal });
  }

  /** The promises given in a time; none where the link names none. */
  async promises(span) {
    return this.promisesAt === undefined ? new Map() : fetchPromises(this.promisesAt, span);
  }

  log(path, signal = null) {
    const address = `${this.logAt.replace(/\/$/, "")}/${path}`;
    return fetchFile(address, { limit: sizeLimit(path), signal });
  }
}

/**
 * A folder as an auditor has it: `ledger.jsonl`, `promises.jsonl`, a log's mirror (`checkpoint`, `tile/...`), and
 * bundles by trade, whole (`<trade>.json`) or in parts (`trades/`, `parts/`).
 */
export class FolderEvidence {
  #byPath;
  #bundles = new Map();
  #parts = new Map();
  #log;
  #ledger;
  #promises;

  constructor(byPath) {
    this.#byPath = byPath;
    const paths = [...byPath.keys()].sort();
    const checkpoint = paths.find((path) => /(?:^|\/)checkpoint$/.test(path));
    this.#log = checkpoint?.slice(0, -CHECKPOINT_PATH.length);
    this.#ledger = paths.find((path) => /\.jsonl$/.test(path) && /ledger[^/]*$/.test(path));
    this.#promises = paths.find((path) => /promises[^/]*\.jsonl$/.test(path));
    for (const path of paths) {
      const [, kind, name] = /(?:^|\/)(?:(parts|trades)\/)?([0-9a-f]{64})\.json$/.exec(path) ?? [];
      if (kind === "parts") this.#parts.set(`sha256:${name}`, path);
      else if (name !== undefined) this.#bundles.set(name, path);
    }
    this.hasLog = this.#log !== undefined;
    this.hasLedger = this.#ledger !== undefined;
    this.hasBundles = this.#bundles.size > 0;
  }

  /** The other files, small ones, to be told apart by what they hold. */
  others() {
    const used = new Set([...this.#bundles.values(), ...this.#parts.values(), this.#ledger]);
    return [...this.#byPath].filter(
      ([path, file]) =>
        !used.has(path) && !/\.jsonl$/.test(path) && file.size <= 1024 * 1024 && !this.#inLog(path),
    );
  }

  #inLog(path) {
    return this.hasLog && /^(?:checkpoint$|tile\/)/.test(path.slice(this.#log.length));
  }

  async ledger({ first = 0, last = Infinity } = {}) {
    const lines = readLedger(await this.#read(this.#ledger, LEDGER_LIMIT));
    return lines.filter((line) => line.entry >= first && line.entry <= last);
  }

  async bundle(trade) {
    const data = await this.#read(this.#bundles.get(trade), BUNDLE_LIMIT);
    const start = fromUtf8(data.slice(-200).filter((value) => value < 128)) ?? "";
    if (!/"type":"quotary\/trade_part\/v1"\}?\s*$/.test(start)) return data;
    return joined(data, (name) => this.#read(this.#parts.get(name), BUNDLE_LIMIT));
  }

  async promises() {
    if (this.#promises === undefined) return new Map();
    return readPromises(await this.#read(this.#promises, LEDGER_LIMIT));
  }

  log(path) {
    return this.#read(`${this.#log}${path}`, sizeLimit(path));
  }

  async #read(path, limit) {
    const file = path === undefined ? undefined : this.#byPath.get(path);
    if (file === undefined) {
      throw unavailable("the folder does not hold the file", { rule: "folder", found: path });
    }
    if (file.size > limit) {
      throw unavailable(`a file is larger than ${limit} bytes`, { rule: "folder", found: path });
    }
    return new Uint8Array(await file.arrayBuffer());
  }
}

/** The files of folders that were chosen or dropped, by path. */
export function folderOf(files) {
  return new Map(files.map((file) => [file.webkitRelativePath || file.name, file]));
}
