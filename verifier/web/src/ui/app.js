// Keeps what was opened and draws it. Verification is pure and elsewhere; here is what it is given.

import { shippedVenues } from "../api.js";
import { fromUtf8 } from "../core/bytes.js";
import { isKind, QuotaryError, usage } from "../core/errors.js";
import { readExpect } from "../presentation/expect.js";
import { readSettlementExpect } from "../settlement/expect.js";
import { acceptedBanner, FORKED, refusedBanner, REKEYED } from "./banner.js";
import { chartSection } from "./chart.js";
import { checkedSection } from "./checked.js";
import { againSection, elsewhereSection, whatIfSection } from "./checks.js";
import { h, visible } from "./dom.js";
import { FolderEvidence, folderOf, ServedEvidence } from "./evidence.js";
import { fetchFile, fetchParts } from "./fetching.js";
import { plural } from "./format.js";
import { judge } from "./judging.js";
import { checkHeads, keysSection, proveHeads } from "./keys.js";
import { ledgerSection } from "./ledger.js";
import { readLink } from "./link.js";
import { remember, remembered } from "./memory.js";
import { quoteReport } from "./quote.js";
import { casesSection, statisticsSection } from "./several.js";
import { BUNDLE_LIMIT, checkId, classify, logPolicySource, readFile, trustSource } from "./sources.js";
import { acceptDrops, dropZone, intro, settings, steps } from "./start.js";
import { Survey, surveyKnown } from "./survey.js";
import { venuesSection } from "./venues.js";
import { BROUGHT, warningsOf } from "./warnings.js";
import { limitsSection, policySection } from "./words.js";

const SMALL = 1024 * 1024;

export class App {
  constructor(root) {
    this.root = root;
    this.trust = null;
    this.logPolicy = null;
    this.expect = {};
    this.quoteExpect = null;
    this.linked = false;
    this.venues = new Map(shippedVenues);
    this.ledger = null;
    this.times = new Map();
    this.evidence = null;
    this.survey = null;
    this.items = [];
    this.current = null;
    this.failure = null;
  }

  start() {
    this.recall();
    acceptDrops((files) => this.take(files));
    addEventListener("hashchange", () => this.follow());
    this.follow();
  }

  /** Takes up the keys that this browser keeps for its reader. */
  recall() {
    this.guard(() => {
      const trust = remembered("trust");
      const logPolicy = remembered("log policy");
      if (trust !== null) this.trust = trustSource(trust, false);
      if (logPolicy !== null) this.logPolicy = logPolicySource(logPolicy, false);
    });
  }

  /** Opens what the page's link names. */
  async follow() {
    const link = readLink();
    if ([link.bundle, link.ledger, link.part].every((address) => address === undefined)) {
      this.draw();
      return;
    }
    this.wait("Fetching what to verify here…");
    this.items = [];
    this.failure = null;
    await this.guardAsync(async () => {
      checkId(link.policy_id, "policy_id");
      checkId(link.trade, "trade");
      this.expect = {
        ...(link.policy_id === undefined ? {} : { policy_id: link.policy_id }),
        ...(link.trade === undefined ? {} : { trade: link.trade }),
        ...(link.development === "1" ? { insecure_allow_development: true } : {}),
      };
      this.linked = true;
      if (this.trust === null && link.trust !== undefined) {
        this.trust = trustSource(textOf(await fetchFile(link.trust, { limit: SMALL })), true);
      }
      if (this.logPolicy === null && link.log_policy !== undefined) {
        const text = textOf(await fetchFile(link.log_policy, { limit: SMALL }));
        this.logPolicy = logPolicySource(text, true);
      }
      if (link.ledger !== undefined) await this.use(new ServedEvidence(link));
      else this.evidence = new ServedEvidence(link);
      let data = null;
      if (link.bundle !== undefined) data = await fetchFile(link.bundle, { limit: BUNDLE_LIMIT });
      else if (link.part !== undefined) {
        data = await fetchParts(link.part, link.parts ?? "/v1/parts/{part}");
      }
      if (data !== null) this.items.push({ name: "the linked bundle", data });
    });
    this.show();
  }

  /** Takes up where ledger, bundles and log are. */
  async use(evidence) {
    this.evidence = evidence;
    this.learn({ kind: "ledger", lines: await evidence.ledger() });
    this.survey = evidence.hasLog
      ? new Survey(evidence, {
          known: () => surveyKnown(this),
          told: (lines, times) => this.learnTimes(lines, times),
          open: evidence.hasBundles ? (line) => this.openTrade(line) : null,
        })
      : null;
  }

  /** Takes up what the log told of when trades were logged. */
  learnTimes(lines, times) {
    this.times = times;
    for (const line of lines) this.ledger.set(line.trade, line);
    this.shownLines = lines;
    this.draw();
  }

  /** Takes a folder: ledger, bundles and log stay where they are until they are asked for. */
  async takeFolder(files) {
    this.failure = null;
    const evidence = new FolderEvidence(folderOf(files));
    this.evidence = evidence;
    await this.guardAsync(async () => {
      if (evidence.hasLedger) await this.use(evidence);
    });
    const failure = this.failure;
    await this.take(evidence.others().map(([, file]) => file));
    this.failure ??= failure;
    this.draw();
  }

  /** Fetches and verifies the bundle of a trade of the ledger. */
  async openTrade({ trade }) {
    this.wait("Fetching the bundle…");
    this.failure = null;
    await this.guardAsync(async () => {
      const data = await this.evidence.bundle(trade);
      const { policy_id, insecure_allow_development } = this.expect;
      this.expect = {
        trade,
        ...(policy_id && { policy_id }),
        ...(insecure_allow_development && { insecure_allow_development }),
      };
      this.items = [{ name: `the bundle of ${trade.slice(0, 12)}…`, data }];
    });
    this.show();
  }

  wait(text) {
    this.root.replaceChildren(h("p", { class: "waiting", role: "status" }, text));
  }

  /** Verifies all items, and shows what came out. */
  show() {
    this.judgeAll();
    this.draw();
    this.focus();
  }

  /** Takes files: keys and expectations first, then all bundles. */
  async take(files) {
    this.failure = null;
    const read = await Promise.all(files.map(readFile));
    const fresh = [];
    const shown = [];
    for (const { name, data, error } of read) {
      this.guard(() => {
        if (error !== undefined) throw error;
        const found = classify(name, data);
        if (found.kind === "bundle") fresh.push({ name, data });
        else if (found.kind === "presentation") shown.push(data);
        else this.learn({ ...found, name });
      }, visible(name, 80));
    }
    // Presentations given together are several notaries' of one quote.
    if (shown.length)
      fresh.push({ name: plural(shown.length, "presentation"), presentations: shown });
    if (fresh.length) this.items = fresh;
    this.show();
  }

  learn(found) {
    if (found.kind === "trust") {
      this.trust = { ...trustSource(found.text, false), name: found.name ?? "" };
      remember("trust", found.text);
    } else if (found.kind === "log policy") {
      this.logPolicy = { ...logPolicySource(found.text, false), name: found.name ?? "" };
      remember("log policy", found.text);
    } else if (found.kind === "expect") {
      this.expect = readSettlementExpect(found.text);
      this.linked = false;
    } else if (found.kind === "quote expect") {
      this.quoteExpect = readExpect(found.text);
    } else if (found.kind === "receipt") {
      this.expect = { ...this.expect, ...found.expect };
      if (found.expect.policy_id !== undefined) this.linked = false;
    } else if (found.kind === "ledger") {
      this.ledger = new Map(found.lines.map((line) => [line.trade, line]));
      this.times = new Map();
      this.shownLines = found.lines;
    } else if (found.kind === "policy") {
      this.expect = { ...this.expect, policy_id: found.policy.policy_id };
      this.linked = false;
    } else this.venues.set(found.file.name, found.file);
  }

  judgeAll() {
    for (const item of this.items) judge(item, this);
    this.current = this.items[0] ?? null;
  }

  draw() {
    const item = this.current;
    const zone = dropZone(
      (files) => this.take(files),
      (files) => this.takeFolder(files),
    );
    const values = {
      trust: this.trust?.brought === false ? this.trust.text : "",
      logPolicy: this.logPolicy?.brought === false ? this.logPolicy.text : "",
      policyId: this.expect.policy_id ?? "",
      trade: this.expect.trade ?? "",
      development: this.expect.insecure_allow_development ?? false,
      trouble: this.failure ?? item?.error,
    };
    const own = settings(
      values,
      (given) => this.apply(given),
      () => this.forget(),
    );
    const canOpen = this.ledger !== null && this.evidence?.hasBundles ? (line) => this.openTrade(line) : null;
    const ledger =
      this.ledger === null
        ? null
        : [ledgerSection(this.shownLines, canOpen, this.times), this.survey?.element];
    const failure =
      this.failure === null ? null : refusedBanner(this.failure, this.failed, item !== null);
    if (item === null) {
      const found = [failure ?? intro(), ledger, zone, own, steps()];
      this.root.replaceChildren(...found.flat().filter(Boolean));
      return;
    }
    const choose = (other) => {
      this.current = other;
      this.draw();
      this.focus();
    };
    const several = this.items.length > 1 ? casesSection(this.items, choose, item) : null;
    const parts = this.parts(item);
    this.root.replaceChildren(
      ...[failure, ...parts.slice(0, 1), several, ...parts.slice(1), ledger, zone, own]
        .flat()
        .filter(Boolean),
    );
  }

  parts(item) {
    if (item.error !== undefined) return this.refused(item);
    if (item.result !== undefined) return this.report(item);
    const warnings = this.trust.brought ? [BROUGHT] : [];
    return quoteReport(item.found, warnings, item.took);
  }

  /** A refusal, and how to have another program say so. */
  refused(item) {
    const { error, data } = item;
    const banner = refusedBanner(error, visible(item.name, 80));
    if (isKind(error, "UsageError", "UnavailableError") || data === undefined) return [banner];
    const names = this.namesOf(item);
    return [banner, againSection({ bundle: data, names, expect: this.expect })];
  }

  /** The files' names, for the command that repeats the check. */
  namesOf(item) {
    return {
      bundle: item.name,
      trust: this.trust?.name ?? "",
      logPolicy: this.logPolicy?.name ?? "",
    };
  }

  report(item) {
    const { result, bundle } = item;
    const sources = { trust: this.trust, logPolicy: this.logPolicy };
    if (item.heads === undefined) {
      item.heads = checkHeads(bundle, result);
      this.proveHeads(item);
    }
    const warnings = warningsOf(item, this);
    const states = item.heads.map((head) => head.state);
    if (states.includes("rekeyed")) warnings.unshift(REKEYED);
    if (states.includes("fork")) warnings.unshift(FORKED);
    return [
      acceptedBanner(result, warnings, item.took, this.expect.insecure_allow_development ?? false),
      checkedSection(result, {
        brought: this.trust.brought || this.logPolicy.brought,
        agreed: this.expect.policy_id !== undefined && !this.linked,
        receipt: this.expect.digest !== undefined,
        ledger: this.ledger?.has(result.leaf.trade) ?? false,
      }),
      chartSection(result),
      venuesSection(result),
      policySection(
        result,
        this.expect.policy_id === undefined ? "unsaid" : this.linked ? "linked" : "agreed",
      ),
      keysSection(result, sources, item.heads),
      statisticsSection(this.items),
      whatIfSection(result),
      elsewhereSection(result, {
        bundle: item.data,
        names: this.namesOf(item),
        development: this.expect.insecure_allow_development ?? false,
      }),
      limitsSection(result),
    ];
  }

  /** Asks the log itself where a bundle alone cannot compare heads; draws anew if it could. */
  async proveHeads(item) {
    const { heads } = item;
    const before = heads.map((head) => head.state).join();
    if (!this.evidence?.hasLog) return;
    await proveHeads(heads, this.logPolicy.parsed, (path) => this.evidence.log(path));
    const changed = heads.map((head) => head.state).join() !== before;
    if (changed && this.current === item && item.heads === heads) this.draw();
  }

  apply({ trust, logPolicy, policyId, trade, development }) {
    this.failure = null;
    this.guard(() => {
      checkId(policyId || undefined, "policy_id");
      checkId(trade || undefined, "trade");
      if (trust) this.learn({ kind: "trust", text: trust });
      if (logPolicy) this.learn({ kind: "log policy", text: logPolicy });
      const { digest, logged_by_us } = trade === this.expect.trade ? this.expect : {};
      this.expect = {
        ...(digest === undefined ? {} : { digest, logged_by_us }),
        ...(policyId ? { policy_id: policyId } : {}),
        ...(trade ? { trade } : {}),
        ...(development ? { insecure_allow_development: true } : {}),
      };
      this.linked = false;
    });
    this.show();
  }

  forget() {
    remember("trust", null);
    remember("log policy", null);
    this.trust = null;
    this.logPolicy = null;
    this.expect = {};
    this.show();
  }

  /** Tells readers of screens what came out. */
  focus() {
    const title = this.root.querySelector("h1");
    document.title = `${title.textContent} · Quotary`;
    title.focus({ preventScroll: true });
    scrollTo({ top: 0 });
  }

  guard(step, what = "what was opened") {
    try {
      step();
    } catch (error) {
      this.failed = what;
      if (!isKind(error, "UsageError", "MalformedError", "UntrustedError", "UnavailableError"))
        throw error;
      this.failure = error;
    }
  }

  async guardAsync(step) {
    try {
      await step();
    } catch (error) {
      this.failed = "what was asked for";
      if (!(error instanceof QuotaryError)) throw error;
      this.failure = error;
    }
  }
}

function textOf(data) {
  const text = fromUtf8(data);
  if (text === null) throw usage("the server’s file is no text", { rule: "link" });
  return text;
}
