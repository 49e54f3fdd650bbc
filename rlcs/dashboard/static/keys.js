// The keyboard: keys that hold everywhere, rows walked with arrows, and a list of all of it under "?".

import { el, replace } from "./dom.js";

const KEYS = [
  ["1 … 5", "Overview, Difficulty, Problems, Rollouts, Compare"],
  ["/", "to the search field"],
  ["↑ ↓  Home  End", "from row to row of a table"],
  ["Enter", "open the row"],
  ["j  k", "next and previous rollout or problem"],
  ["← →", "previous and next page of a table"],
  ["g", "the rollout's whole group side by side"],
  ["Esc", "back to the list"],
  ["?", "these keys"],
];

function showKeys() {
  const dialog = document.getElementById("keys");
  replace(
    dialog,
    el("h1", {}, "Keys"),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        KEYS.map(([keys, what]) =>
          el(
            "tr",
            {},
            el(
              "td",
              {},
              keys.split("  ").map((key) => [el("kbd", {}, key), " "]),
            ),
            el("td", {}, what),
          ),
        ),
      ),
    ),
    el(
      "p",
      { class: "remark" },
      "Every view has its own address: copy it, or go back to it. Click a point of a chart for the rollouts behind it.",
    ),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
  dialog.showModal();
}

// `current()` is the page that is shown; its `keys` are {key: action}.
export function bindKeys({ current, pages }) {
  document.getElementById("help").addEventListener("click", showKeys);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && typing) return typing.blur();
    if (typing || document.getElementById("keys").open) return;
    const own = current()?.keys?.[event.key];
    const page = pages[Number(event.key) - 1];
    if (own) own(event);
    else if (event.key === "?") showKeys();
    else if (event.key === "/") document.querySelector('input[type="search"]')?.focus();
    else if (page) page();
    else return;
    event.preventDefault();
  });
}

// Arrow keys walk the rows of a table body; Enter or a click opens one. Rows carry their key in `data-key`.
export function walkRows(body, open) {
  const rows = () => [...body.children];
  const focus = (row) => {
    if (!row) return;
    for (const other of rows()) other.tabIndex = other === row ? 0 : -1;
    row.focus();
  };
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    const at = rows().indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows().length - 1 }[event.key];
    if (to !== undefined) focus(rows()[Math.max(0, Math.min(to, rows().length - 1))]);
    else if (event.key === "Enter" && event.target === row) open(row.dataset.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a, button")) open(row.dataset.key);
  });
}

// Marks the opened row and makes it the one that Tab reaches.
export function markRow(body, key) {
  const rows = [...body.children];
  const chosen = rows.find((row) => row.dataset.key === key);
  rows.forEach((row) => {
    row.setAttribute("aria-selected", String(row === chosen));
    row.tabIndex = row === (chosen ?? rows[0]) ? 0 : -1;
  });
  return chosen;
}

// The key of the row before or after the opened one, null at the ends.
export function neighbour(body, key, by) {
  const rows = [...body.children];
  const at = rows.findIndex((row) => row.dataset.key === key);
  return rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by]?.dataset.key ?? null;
}
