// Quotes from a venue's live channel, as attestation/feed.py reads them: what a channel says follows
// from its messages in their order alone.

import { fromUtf8, shown, utf8 } from "./bytes.js";
import { incomplete, malformed, usage } from "./errors.js";
import { gunzip } from "./inflate.js";
import { normalize } from "./price.js";
import { exchangeUs, isAbove, positivePrice } from "./quote.js";
import { sameScalar, scalar, scalars, textOf } from "./strictjson.js";

const MAX_ECHO = 64;
const fail = (detail, found = null) => malformed(detail, { rule: "W11", found });

function member(found, pointer) {
  const value = found.get(pointer);
  if (value === undefined) throw fail("a member the quote needs is absent", pointer);
  return value;
}

const hold = (checks, found) =>
  checks.every(([at, wanted]) => {
    const value = found.get(at);
    return value !== undefined && (value.raw === wanted.raw || sameScalar(value, wanted));
  });

// Order books send arrays of pairs of number texts: all but the first row are left out.
const LADDER = /(\[\["[0-9.]{1,40}","[0-9.]{1,40}"\])(?:,\["[0-9.]{1,40}","[0-9.]{1,40}"\])+\]/g;

/** The scalars of a message, of every ladder the first row alone. */
function messageScalars(message) {
  const text = fromUtf8(message);
  if (text === null || !text.includes('"],["')) return scalars(message);
  return scalars(utf8(text.replace(LADDER, "$1]")));
}

/** Reads the messages that a quote of one live session rests on, in order. */
class Excerpt {
  constructor(venue, instrument) {
    venue.market(instrument);
    this.venue = venue;
    this.instrument = instrument;
    this.channel = venue.content.websocket;
    if (this.channel === undefined) {
      throw usage(`${venue.name} has no [websocket]`, { rule: "websocket" });
    }
    this.quote = this.channel.quote;
    const { messages } = this.channel;
    this.texts = new Set(messages.filter((rule) => rule.text !== undefined).map((r) => r.text));
    this.rules = messages
      .filter((rule) => rule.text === undefined)
      .map((rule) => [
        rule,
        venue.checks(rule.when, instrument),
        venue.placed(rule.present, instrument),
        venue.placed(rule.absent, instrument),
      ]);
    this.when = venue.checks(this.quote.when, instrument);
    this.present = venue.placed(this.quote.present, instrument);
    this.absent = venue.placed(this.quote.absent, instrument);
    this.assigned = null;
    this.sides = new Map();
    this.newest = null;
  }

  /** Reads message `index` (bytes): the quote with the indexes it rests on, or null. */
  read(message, index) {
    let book;
    try {
      const found = this.parse(message, index);
      book = found === null ? null : this.book(found, index);
    } catch (error) {
      // What it changed is not known: a side set before must not outlive it.
      this.sides.clear();
      throw error;
    }
    return book === null ? null : this.judge(book);
  }

  parse(sent, index) {
    const message = this.channel.encoding === undefined ? sent : gunzip(sent);
    if (this.texts.has(fromUtf8(message))) return null;
    const found = messageScalars(message);
    const late = this.quote.contiguous === true && this.follows(found);
    for (const [rule, checks, present, absent] of this.rules) {
      if (
        hold(checks, found) &&
        present.every((at) => found.has(at)) &&
        !absent.some((at) => found.has(at))
      ) {
        this.pass(rule, found, index);
        return null;
      }
    }
    if (!this.isQuote(found)) {
      throw fail("neither a quote nor another message of the channel", shown(message).slice(0, 80));
    }
    return late ? null : found;
  }

  pass(rule, found, index) {
    if (rule.channel !== undefined) {
      this.assigned = { value: this.at(found, rule.channel), index };
    }
    const { answer, echo } = this.channel.keep_alive;
    if (rule.kind !== "ping" || answer === undefined || echo === undefined) return;
    if (utf8(this.at(found, echo).raw).length > MAX_ECHO) {
      throw fail("a ping repeats too much");
    }
  }

  isQuote(found) {
    if (!hold(this.when, found)) return false;
    if (this.quote.channel === undefined) return true;
    const value = found.get(this.quote.channel);
    if (value === undefined || value.kind !== "number") return false;
    if (this.assigned === null || !sameScalar(value, this.assigned.value)) {
      throw fail("a quote of a channel that was not assigned", value.raw.slice(0, 80));
    }
    return true;
  }

  book(found, index) {
    for (const at of this.absent) {
      if (found.has(at)) throw fail("a message has more than one quote, or another shape", at);
    }
    for (const at of this.present) member(found, at);
    const rule = this.quote;
    const time = rule.exchange_time;
    const exchange = time === undefined ? undefined : exchangeUs(this.at(found, time.at), time);
    const sequence = rule.sequence === undefined ? null : this.whole(found, rule.sequence);
    const { prices } = this.channel;
    if (rule.last !== undefined) positivePrice(this.at(found, rule.last), prices);
    let bid;
    let ask;
    let restsOn = [index];
    if (rule.events === undefined) {
      bid = positivePrice(this.at(found, rule.bid), prices);
      ask = positivePrice(this.at(found, rule.ask), prices);
    } else {
      const changed = this.events(found);
      for (const [side, price] of changed) this.sides.set(side, { price, index });
      if (this.sides.size < 2 || !changed.length) return null;
      const [low, high] = [this.sides.get("bid"), this.sides.get("ask")];
      bid = low.price;
      ask = high.price;
      restsOn = [low.index, high.index];
    }
    if (this.assigned !== null) restsOn.push(this.assigned.index);
    const messages = [...new Set(restsOn)].sort((left, right) => left - right);
    return { quote: { bid, ask, exchange_us: exchange }, messages, sequence };
  }

  judge(book) {
    const { bid, ask, exchange_us: exchange } = book.quote;
    if (!bid || !ask) throw fail("a side of the book is empty");
    if (isAbove(bid, ask)) throw fail("bid is above ask", [bid, ask]);
    if (this.quote.order !== undefined) {
      const place = this.quote.order === "sequence" ? book.sequence : BigInt(exchange);
      if (this.newest !== null && place < this.newest) return null;
      this.newest = place;
    }
    return book;
  }

  follows(found) {
    const sequence = this.whole(found, this.quote.sequence);
    if (this.newest !== null && sequence <= this.newest) return true;
    this.newest = sequence;
    return false;
  }

  events(found) {
    const rule = this.quote.events;
    const rows = new Map();
    for (const [pointer, value] of found) {
      if (!pointer.startsWith(`${rule.at}/`)) continue;
      const inside = pointer.slice(rule.at.length + 1);
      const slash = inside.indexOf("/");
      const number = slash < 0 ? inside : inside.slice(0, slash);
      if (!rows.has(number)) rows.set(number, new Map());
      rows.get(number).set(slash < 0 ? "" : inside.slice(slash), value);
    }
    const when = this.venue.checks(rule.when, this.instrument);
    const ignore = this.venue.checks(rule.ignore, this.instrument);
    const changed = [];
    for (const row of rows.values()) {
      if (ignore.some((check) => hold([check], row))) continue;
      if (!hold(when, row)) throw fail("an event of another kind or instrument");
      const side = member(row, rule.side);
      const isBid = sameScalar(side, scalar(rule.bid));
      if (!isBid && !sameScalar(side, scalar(rule.ask))) throw fail("an event of no side");
      let price = positivePrice(member(row, rule.price), this.channel.prices);
      const remaining = textOf(member(row, rule.remaining), this.channel.prices);
      if (normalize(remaining) === "0") price = "";
      changed.push([isBid ? "bid" : "ask", price]);
    }
    return changed;
  }

  at(found, template) {
    return member(found, template.replaceAll("{instrument}", this.instrument));
  }

  whole(found, template) {
    const value = this.at(found, template);
    const text = textOf(value, value.kind === "string" ? "string" : "number");
    if (!/^[0-9]{1,20}$/.test(text)) throw fail("sequence is not a whole number");
    return BigInt(text);
  }
}

/** Reads the quote that rests on exactly these messages of a session, in their order. */
export function deriveObservation(venue, instrument, messages) {
  const excerpt = new Excerpt(venue, instrument);
  let result = null;
  messages.forEach((message, index) => {
    try {
      result = excerpt.read(message, index);
    } catch (error) {
      // A book may have been crossed until the next message came.
      if (error.name !== "MalformedError" || index + 1 === messages.length) throw error;
    }
  });
  const rests = result?.messages ?? [];
  // The messages' places in order, each once: as many as there are are all.
  if (!result || rests.length !== messages.length) {
    throw incomplete("the messages are not those a quote rests on", {
      rule: "W11",
      found: messages.length,
    });
  }
  return result.quote;
}
