// That an attested start is of the live session a feed's observation names (W10, W14).

import { invalidProof } from "./errors.js";

const WHAT = {
  purpose: "purpose is not this feed's and venue's",
  host: "host is not the venue's",
  server: "certificate was checked for another name",
  port: "port is not the venue file's",
  method: "method is not the upgrade's",
  target: "request is not the venue file's",
  status: "answer is no upgrade",
};

/** Checks purpose, host, certificate's name, port and upgrade of a live session. */
export function checkLiveStart({ session, connection, server, http }, { feed, venue, instrument }) {
  const demand = (member, holds, found, wanted) => {
    if (!holds) {
      const rule = `session.${member}`;
      throw invalidProof(`the session's ${WHAT[member]}`, { rule, found, wanted });
    }
  };
  const same = (member, found, wanted) => demand(member, found === wanted, found, wanted);
  const channel = venue.content.websocket;
  const { host, port } = connection;
  same("purpose", session.purpose, `live/${feed}/${venue.name}`);
  demand("host", venue.allowsLive(host), host, channel?.hosts ?? []);
  same("server", server.name, host);
  same("port", port, channel.port);
  same("method", http.method, "GET");
  const target = venue.liveTarget(instrument);
  demand("target", target.test(http.target), http.target, target.source);
  same("status", http.status, 101);
}
