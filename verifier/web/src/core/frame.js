// The text of one whole message of a WebSocket client (RFC 6455), strict as attestation/websocket.py.

import { concat, fromUtf8 } from "./bytes.js";

const MOST = 16 * 1024;

/** One masked frame at the start of bytes: {first, payload, end}, or null where there is none. */
function readFrame(data, start) {
  if (data.length - start < 6 || data[start] & 0x70 || !(data[start + 1] & 0x80)) return null;
  let length = data[start + 1] & 0x7f;
  let body = start + 2;
  if (length >= 126) {
    const size = length === 126 ? 2 : 8;
    length = 0;
    for (const value of data.subarray(body, body + size)) length = length * 256 + value;
    // The minimal number of bytes must be used to encode the length.
    if (length < 126 || (size === 8 && length < 65536)) return null;
    body += size;
  }
  const mask = data.subarray(body, body + 4);
  const end = body + 4 + length;
  if (length > MOST || mask.length < 4 || end > data.length) return null;
  const payload = data.slice(body + 4, end);
  for (let at = 0; at < payload.length; at += 1) payload[at] ^= mask[at % 4];
  return { first: data[start], payload, end };
}

/** The text that these bytes are one whole message of; null if they are anything else. */
export function clientText(data) {
  const parts = [];
  let position = 0;
  for (;;) {
    const frame = readFrame(data, position);
    // A text frame first, and continuations after it: no control frame between them.
    if (frame === null || (frame.first & 0x0f) !== (parts.length ? 0 : 1)) return null;
    parts.push(frame.payload);
    position = frame.end;
    if (frame.first & 0x80) break;
  }
  const whole = concat(...parts);
  return position === data.length && whole.length <= MOST ? fromUtf8(whole) : null;
}
