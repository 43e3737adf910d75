// Venue files: where an exchange publishes a quote and how to read it, as data. A file is known by
// the hash of its canonical JSON; a policy names it, and the reader's own copy must have it.

import { decodeObject } from "./canonical.js";
import { malformed } from "./errors.js";
import { hashString } from "./hashing.js";
import { utf8 } from "./bytes.js";
import { scalar } from "./strictjson.js";

const PLACEHOLDER = "{instrument}";
const STREAM = "{stream}";

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

  placed = (pointers, instrument) =>
    (pointers ?? []).map((pointer) => pointer.replaceAll(PLACEHOLDER, instrument));
}

/** Reads venue files, given as canonical JSON texts, by name. */
export const readVenueFiles = (texts) =>
  new Map(texts.map((text) => new VenueFile(text)).map((file) => [file.name, file]));
