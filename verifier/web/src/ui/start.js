// What a visitor sees first: where to put files, which keys are believed, what was agreed on.

import { h, more } from "./dom.js";

function fileControl(id, take, attributes) {
  const input = h("input", {
    type: "file",
    id,
    multiple: true,
    class: "visually-hidden",
    ...attributes,
    change: () => {
      take([...input.files]);
      input.value = "";
    },
  });
  return input;
}

/** The control that takes files, by dropping, choosing or keyboard; and a folder, where there is one. */
export function dropZone(take, takeFolder) {
  const folders = "webkitdirectory" in HTMLInputElement.prototype;
  const zone = h(
    "div",
    { class: "drop" },
    fileControl("files", take, {}),
    h("label", { for: "files", class: "button" }, "Open files"),
    folders
      ? [
          fileControl("folder", takeFolder, { webkitdirectory: true }),
          h("label", { for: "folder", class: "button second" }, "Open a folder"),
        ]
      : null,
    h(
      "p",
      {},
      "or drop them here: the bundle, and what you have of your receipt, trust file, log policy and expect file. A folder may hold a ledger, a log’s mirror and bundles.",
    ),
  );
  return zone;
}

/** Lets files be dropped anywhere on the page. */
export function acceptDrops(take) {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take([...(event.dataTransfer?.files ?? [])]);
  });
}

const field = (id, label, hint, control) =>
  h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    h("p", { class: "quiet", id: `${id}-hint` }, hint),
    control,
  );

const area = (id, value, placeholder) => {
  const made = h("textarea", {
    id,
    rows: "6",
    spellcheck: "false",
    placeholder,
    "aria-describedby": `${id}-hint`,
  });
  made.value = value;
  return made;
};

const line = (id, value) => {
  const made = h("input", {
    id,
    type: "text",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": `${id}-hint`,
  });
  made.value = value;
  return made;
};

/** The reader's own keys and expectations; `apply` gets their texts, `forget` drops what is kept. */
export function settings(values, apply, forget) {
  const trust = area("trust", values.trust, '[[notary]]\nname = "notary.example"\n…');
  const logPolicy = area("log-policy", values.logPolicy, "log …\nwitness …\nquorum …");
  const policyId = line("policy-id", values.policyId);
  const trade = line("trade", values.trade);
  const development = h("input", { id: "development", type: "checkbox" });
  development.checked = values.development;
  const submit = (event) => {
    event.preventDefault();
    apply({
      trust: trust.value.trim() ? trust.value : "",
      logPolicy: logPolicy.value.trim() ? `${logPolicy.value.trimEnd()}\n` : "",
      policyId: policyId.value.trim(),
      trade: trade.value.trim(),
      development: development.checked,
    });
  };
  const form = h(
    "form",
    { submit },
    field(
      "trust",
      "Trust file",
      "The keys of notaries that you believe, from a source of your own. Kept in this browser.",
      trust,
    ),
    field(
      "log-policy",
      "Log policy",
      "The logs, and which witnesses must have cosigned.",
      logPolicy,
    ),
    field(
      "policy-id",
      "Policy id",
      "What was agreed on, as the operator published it before you traded.",
      policyId,
    ),
    field(
      "trade",
      "Trade id",
      "On your receipt. Leave it empty to look at whatever the bundle holds.",
      trade,
    ),
    h(
      "p",
      { class: "field check" },
      development,
      h(
        "label",
        { for: "development" },
        "Allow simulated venues (a development set-up: nothing of it is real)",
      ),
    ),
    h(
      "p",
      { class: "buttons" },
      h("button", { type: "submit", class: "primary" }, "Use these"),
      h("button", { type: "button", click: forget }, "Forget what is kept here"),
    ),
  );
  const made = more("Your keys, and what you agreed to", form);
  made.open = CURED_HERE.has(values.trouble?.rule);
  return made;
}

/** What a reader can mend by these settings. */
const CURED_HERE = new Set(["trust", "log_policy", "session.address"]);

export function intro() {
  return h(
    "section",
    { class: "intro", "aria-labelledby": "title" },
    h("h1", { id: "title", tabindex: "-1" }, "Check a settled trade yourself"),
    h(
      "p",
      { class: "lead" },
      "A bundle holds everything a trade’s outcome follows from: signed prices, the venues’ own bytes, and every entry of the public log in between. This page recomputes the outcome here, in your browser, and asks no server whether it is true.",
    ),
  );
}

export function steps() {
  return h(
    "section",
    { "aria-labelledby": "steps" },
    h("h2", { id: "steps" }, "In two minutes"),
    h(
      "ol",
      { class: "plain" },
      h("li", {}, "Save the trade’s bundle from the game, or open its “check this” link."),
      h(
        "li",
        {},
        "Bring the keys of the notaries and witnesses from somewhere else than the game: their own sites, or people you trust.",
      ),
      h(
        "li",
        {},
        "Open both here. You will see the outcome with every price on the way, or the reason why it is refused.",
      ),
      h(
        "li",
        {},
        "Do not believe this page either: save it, compare its SHA-256 with the release notes, or run the command that it shows.",
      ),
    ),
  );
}
