// Permalinks: `#bundle=URL&trust=URL&log_policy=URL&policy_id=HEX&trade=HEX`, all of this server.
// After the sign, so that a server never learns which trade is looked at by the link alone.
// `part=URL&parts=URL` (with `{part}` in it) names a bundle in parts that trades share.
// `ledger=URL&bundles=URL` (with `{trade}` in it; `parts=` where these are parts) lists a ledger's
// trades to search and to open; `log=URL` is the log they stand in, to read and to count,
// `promises=URL` what the operator promised, which tells when orders came.
// `trade=HEX` alone is a trade where `verifier serve --evidence` and `prover serve` have it.
// `development=1` allows simulated venues, which the verdict then says first of all.

const MEMBERS = [
  "bundle",
  "part",
  "parts",
  "ledger",
  "bundles",
  "log",
  "promises",
  "trust",
  "log_policy",
  "policy_id",
  "trade",
  "development",
];

/** Where a server has what belongs to a trade, unless a link says otherwise. */
const served = (trade) => ({
  bundle: `/v1/trades/${trade}/bundle`,
  log: "/log",
  trust: "/trust.toml",
  log_policy: "/log_policy.txt",
});

/** The members of the page's link; empty texts are left out. */
export function readLink(address = location) {
  const given = new URLSearchParams(address.hash.replace(/^#/, "") || address.search);
  const link = {};
  for (const member of MEMBERS) {
    const value = given.get(member);
    if (value) link[member] = value;
  }
  const isShort = ["bundle", "part", "ledger"].every((member) => link[member] === undefined);
  if (isShort && /^[0-9a-f]{64}$/.test(link.trade ?? "") && address.protocol !== "file:") {
    return { ...served(link.trade), ...link };
  }
  return link;
}
