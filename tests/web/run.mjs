// Asks the built page what Python was asked: runs its script, then answers lines of JSON.
//
//   node run.mjs PAGE QUESTIONS

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createReadStream } from "node:fs";
import { runInThisContext } from "node:vm";

const [, , page, questions] = process.argv;
const [, script] = /<script>([\s\S]*)<\/script>/.exec(readFileSync(page, "utf8"));
runInThisContext(script);

const revive = (_, value) =>
  typeof value?.base64 === "string" ? new Uint8Array(Buffer.from(value.base64, "base64")) : value;

for await (const line of createInterface({ input: createReadStream(questions) })) {
  const { call, question } = JSON.parse(line, revive);
  const started = process.hrtime.bigint();
  let answer;
  try {
    answer = globalThis.quotary[call](question);
  } catch (error) {
    answer = { bug: String(error.stack) };
  }
  const micros = Number((process.hrtime.bigint() - started) / 1000n);
  process.stdout.write(`${JSON.stringify({ ...answer, micros })}\n`);
}
