// Builds the fairness page: one file, the same bytes from the same sources.
//
//   node build.mjs [OUT]        (by default fairness.html beside this file)

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const sha256 = (text) => `'sha256-${createHash("sha256").update(text, "utf8").digest("base64")}'`;

async function bundled(entry) {
  const result = await build({
    absWorkingDir: here("."),
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    charset: "utf8",
    target: ["es2022"],
    legalComments: "none",
    logLevel: "warning",
  });
  const text = result.outputFiles[0].text.trim();
  if (/<\/(script|style)/i.test(text)) throw new Error(`${entry} would end its own element`);
  return text;
}

const [script, style] = [await bundled("src/main.js"), await bundled("src/page.css")];
const policy = [
  "default-src 'none'",
  `script-src ${sha256(script)}`,
  `style-src ${sha256(style)}`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const parts = { script, style, policy };
const html = readFileSync(here("src/page.html"), "utf8").replace(
  /\{\{(\w+)\}\}/g,
  (_, name) => parts[name],
);
writeFileSync(process.argv[2] ?? here("fairness.html"), html);
