// The order of a session's times and what its mode and binding allow (docs/witness.md).

import { invalidProof } from "./errors.js";

/** Throws InvalidProofError for what no notary signs under a mode and binding. */
export function checkBinding(session, http) {
  if (session.binding === "template") {
    if (session.mode === "live") {
      throw invalidProof("live sessions are bound in full", { rule: "session.binding" });
    }
    if (http.status !== 200) {
      throw invalidProof("a template's response has the status 200", {
        rule: "http.status",
        found: http.status,
      });
    }
  }
  if ((session.mode === "live") !== (http.status === 101)) {
    throw invalidProof("101 is the status of live sessions alone", {
      rule: "http.status",
      found: http.status,
    });
  }
}

/** Throws InvalidProofError unless all times follow in order. */
export function checkTimes(connection, session, issuedUs) {
  const early = session.mode === "live" || session.conn !== undefined;
  const sealed = connection.sealed_us !== undefined;
  if (sealed !== (session.mode === "sealed")) {
    throw invalidProof("sealed_us belongs to the sealed mode", { rule: "connection.sealed_us" });
  }
  const names = [
    "connected_us",
    "hello_us",
    ...(early ? ["opened_us"] : []),
    "released_us",
    "request_first_us",
    "request_last_us",
    "response_first_us",
    "response_last_us",
    ...(sealed ? ["sealed_us"] : []),
    ...(early ? [] : ["opened_us"]),
  ];
  const times = [...names.map((name) => [name, connection[name]]), ["issued_us", issuedUs]];
  times.forEach(([name, after], at) => {
    if (at && after < times[at - 1][1]) {
      throw invalidProof("times are out of order", { rule: `connection.${name}` });
    }
  });
}
