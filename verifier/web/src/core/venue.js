// Venue files: where an exchange publishes a quote and how to read it, as data. A file is known by
// the hash of its canonical JSON; a policy names it, and the reader's own copy must have it.

import { decodeObject } from "./canonical.js";
import { malformed } from "./errors.js";
import { hashString } from "./hashing.js";
import { utf8 } from "./bytes.js";
import { scalar } from "./strictjson.js";

const PLACEHOLDER = "{instrument}";
const STREAM = "{stream}";
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");

/** A venue file of the reader's own, from its canonical JSON text. */
export class VenueFile {
  constructor(canonicalText) {
    const data = utf8(canonicalText);
    this.content = decodeObject(data);
    this.hash = hashString(data);
    this.name = this.content.name;
  }

  listing(instrument) {
    const found = this.content.markets.find((listing) => listing.instrument === instrument);
    if (found === undefined) {
      throw malformed(`instrument is not listed for ${this.name}`, {
        rule: "W14",
        found: instrument.slice(0, 40),
      });
    }
    return found;
  }

  market = (instrument) => this.listing(instrument).market;
  target = (instrument) => this.render(this.content.rest.target, instrument);
  render = (template, instrument) =>
    template.replaceAll(PLACEHOLDER, this.listing(instrument).instrument);

  /** A text of the WebSocket section with its instrument and stream put in. */
  streamed(template, instrument) {
    const listing = this.listing(instrument);
    return this.render(
      template.replaceAll(STREAM, listing.stream ?? listing.instrument),
      instrument,
    );
  }

  /** Checks as [pointer, wanted scalar] pairs. */
  checks(list, instrument) {
    return (list ?? []).map(({ at, equals }) => [
      this.render(at, instrument),
      scalar(this.streamed(equals, instrument)),
    ]);
  }

  /** Whether a host is one of the live channel's; "*" is any letters, digits and hyphens. */
  allowsLive(host) {
    return (this.content.websocket?.hosts ?? []).some((known) =>
      new RegExp(`^${escape(known).replaceAll("\\*", "[a-z0-9-]*")}$`).test(host),
    );
  }

  /** What the target of the upgrade must match. */
  liveTarget(instrument) {
    const { target, token } = this.content.websocket;
    let pattern = escape(this.streamed(target, instrument));
    if (token !== undefined) {
      const paths = token.paths.map(escape).join("|");
      pattern = pattern.replaceAll("\\{path\\}", `(?:${paths})`);
      pattern = pattern.replaceAll("\\{token\\}", "[A-Za-z0-9._~+/=%-]{1,2048}");
    }
    return new RegExp(`^${pattern}$`);
  }

  /** What each text of the subscription must match, in order. */
  subscriptions(instrument) {
    return this.content.websocket.subscribe.map((template) => {
      const pattern = escape(this.streamed(template, instrument));
      return new RegExp(`^${pattern.replaceAll("\\{time_s\\}", "[1-9][0-9]{9}")}$`);
    });
  }

  placed = (pointers, instrument) =>
    (pointers ?? []).map((pointer) => pointer.replaceAll(PLACEHOLDER, instrument));
}

/** Reads venue files, given as canonical JSON texts, by name. */
export const readVenueFiles = (texts) =>
  new Map(texts.map((text) => new VenueFile(text)).map((file) => [file.name, file]));
