// Trades, committed to before anyone knows the price: leaves and their place in a batch (S1).

import { concat, equal, hex, unhex, utf8 } from "../core/bytes.js";
import { encode } from "../core/canonical.js";
import { expectation, invalidProof, malformed } from "../core/errors.js";
import { hashString, parseHash, sha256 } from "../core/hashing.js";
import { leafHash, rootFromMultiproof } from "../core/merkle.js";
import { fraction } from "../core/price.js";
import * as s from "../core/schema.js";

const TRADE_TYPE = "quotary/trade/v1";

export const tradeId = (nonce) => hex(sha256(concat(utf8(TRADE_TYPE), unhex(nonce, 16))));

export const readLeaf = s.document(
  TRADE_TYPE,
  TRADE_TYPE,
  {
    trade: s.hex32,
    player: s.hashText,
    side: s.oneOf("up", "down"),
    market: s.text,
    stake: s.price,
    duration_us: s.positive,
    policy_id: s.hex32,
    nonce: s.hex16,
  },
  (leaf) => {
    const wanted = tradeId(leaf.nonce);
    if (leaf.trade !== wanted) {
      throw malformed("not the id of the nonce", { rule: "trade", found: leaf.trade, wanted });
    }
    if (fraction(leaf.stake).n <= 0n) {
      throw malformed("a stake is more than 0", { rule: "stake", found: leaf.stake });
    }
  },
);

const readCommitment = s.document(
  "tradecommitment",
  null,
  { trade: s.hex32, digest: s.hashText },
  (commitment) => {
    if (!commitment.digest.startsWith("sha256:")) {
      throw malformed("a trade's digest is SHA-256", { rule: "digest" });
    }
  },
);

export const readTradeProof = s.document("quotary/trade_proof/v1", "quotary/trade_proof/v1", {
  index: s.count,
  salt: s.hex16,
  leaf: readLeaf,
  before: s.optional(readCommitment),
  after: s.optional(readCommitment),
  proof: s.arrayOf(s.hex32),
});

/** What the batch commits to of a trade: its id, and the salted hash of its leaf. */
export function commitmentOf(proof) {
  const data = concat(unhex(proof.salt, 16), s.canonical(proof.leaf));
  return { trade: proof.leaf.trade, digest: hashString(data) };
}

/** Checks that a batch's entry holds the trade, once, between its neighbours. */
export function checkTradeProof(proof, entry) {
  if (proof.index >= entry.count) {
    throw invalidProof("the place is outside the batch", {
      rule: "trade.index",
      found: proof.index,
      wanted: entry.count,
    });
  }
  for (const [member, edge] of [
    ["before", 0],
    ["after", entry.count - 1],
  ]) {
    if ((proof[member] === undefined) !== (proof.index === edge)) {
      throw malformed("a trade is shown between the neighbours that its place has", {
        rule: `trade.${member}`,
      });
    }
  }
  const own = commitmentOf(proof);
  const shown = [];
  if (proof.before !== undefined) shown.push([proof.index - 1, proof.before]);
  shown.push([proof.index, own]);
  if (proof.after !== undefined) shown.push([proof.index + 1, proof.after]);
  shown.forEach(([, item], at) => {
    if (at && shown[at - 1][1].trade >= item.trade) {
      throw invalidProof("trades are not strictly increasing in the batch", {
        rule: "batch",
        found: item.trade,
      });
    }
  });
  const { algorithm, digest } = parseHash(entry.root);
  if (algorithm !== "sha256") {
    throw invalidProof("a batch is hashed with SHA-256", { rule: "trades.root" });
  }
  const leaves = new Map(
    shown.map(([place, { trade, digest: value }]) => [
      place,
      leafHash(encode({ trade, digest: value })),
    ]),
  );
  const folded = rootFromMultiproof({
    size: entry.count,
    leaves,
    proof: proof.proof.map((node) => unhex(node, 32)),
  });
  if (!equal(folded, digest)) {
    throw invalidProof("the trade is not in the batch that was logged", { rule: "trades.root" });
  }
}

/** What the rule needs of a trade whose batch was logged at `loggedUs`. */
export function tradeTerms(leaf, policy, loggedUs) {
  for (const [member, found, wanted] of [
    ["policy_id", leaf.policy_id, policy.policy_id],
    ["market", leaf.market, policy.market],
  ]) {
    if (found !== wanted) {
      throw expectation("the trade is under another policy", {
        rule: `trade.${member}`,
        found,
        wanted,
      });
    }
  }
  if (!policy.durations_us.includes(leaf.duration_us)) {
    throw expectation("the policy has no such duration", {
      rule: "trade.duration_us",
      found: leaf.duration_us,
      wanted: policy.durations_us,
    });
  }
  if (loggedUs < policy.effective_us) {
    throw expectation("the policy was not in effect when the trade was logged", {
      rule: "policy.effective_us",
      found: loggedUs,
      wanted: policy.effective_us,
    });
  }
  return { side: leaf.side, duration_us: leaf.duration_us, logged_us: loggedUs };
}
