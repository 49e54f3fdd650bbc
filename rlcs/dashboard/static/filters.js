// Fields of a filter bar.

import { el, replace } from "./dom.js";

// The choice of rows without a value: in an address the empty text stands for "no filter".
export const NONE = "(none)";

// A labelled select. `options` are values or [value, text]; `all` is the text of "no filter", null for none.
export function choice(name, options, value, chosen, all = "all") {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  if (value && !pairs.some(([known]) => known === value)) pairs.push([value, value]);
  const entries = all === null ? pairs : [["", all], ...pairs];
  const select = el(
    "select",
    { name, onchange: (event) => chosen(event.target.value) },
    entries.map(([known, text]) => el("option", { value: known, selected: known === (value ?? "") }, text)),
  );
  return el("label", {}, name, select);
}

// A labelled number; empty is no filter.
export function numberField(name, value, chosen, more = {}) {
  return el(
    "label",
    {},
    name,
    el("input", { type: "number", name, value: value ?? "", onchange: (event) => chosen(event.target.value), ...more }),
  );
}

const PAUSE_MS = 150; // of a typist between two letters; with it a search of a million problems stays below 300 ms

// A search field that asks once the typing pauses.
export function searchField(name, value, chosen, hint) {
  let pause = null;
  const ask = (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => chosen(event.target.value), PAUSE_MS);
  };
  return el(
    "label",
    {},
    name,
    el("input", {
      type: "search",
      name,
      value: value ?? "",
      placeholder: hint,
      oninput: ask,
      "aria-keyshortcuts": "/",
      maxlength: "200",
    }),
  );
}

// Which rows of how many, and the buttons to the others.
export function pager({ offset, limit, matching, move }) {
  const last = Math.min(matching, offset + limit);
  return el(
    "div",
    { class: "pager" },
    el(
      "button",
      {
        type: "button",
        disabled: offset <= 0,
        onclick: () => move(Math.max(0, offset - limit)),
        "aria-label": "previous page",
      },
      "←",
    ),
    el(
      "span",
      {},
      matching
        ? `${(offset + 1).toLocaleString("en-GB")}–${last.toLocaleString("en-GB")} of ${matching.toLocaleString("en-GB")}`
        : "none",
    ),
    el(
      "button",
      { type: "button", disabled: last >= matching, onclick: () => move(offset + limit), "aria-label": "next page" },
      "→",
    ),
  );
}

// Draws a filter bar anew and leaves the reader in the field where they were, with what they had typed.
export function refilled(bar, ...fields) {
  const field = bar.contains(document.activeElement) ? document.activeElement : null;
  const typed = field?.type === "search" ? { value: field.value, start: field.selectionStart, end: field.selectionEnd } : null;
  // On a phone only the first fields are shown until this is pressed.
  const fold = el("button", { type: "button", class: "fold small", onclick: () => bar.classList.toggle("open") }, "filters");
  replace(bar, fields, fold);
  const again = field && [...bar.querySelectorAll("input, select")].find((other) => other.name === field.name);
  if (!again) return;
  again.focus();
  if (typed) {
    again.value = typed.value;
    again.setSelectionRange(typed.start, typed.end);
  }
}
