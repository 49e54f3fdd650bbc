// All problems as a table that the server pages, sorts and searches; one problem with its history.

import { el, replace } from "./dom.js";
import { choice, NONE, numberField, pager, refilled, searchField } from "./filters.js";
import { fixed, percent, plural, points, whole } from "./format.js";
import { markRow, neighbour, walkRows } from "./keys.js";
import { problemPage } from "./lists.js";
import { go, href, place, refine } from "./place.js";
import { showProblem } from "./problem.js";

const LIMIT = 50;
const COLUMNS = [
  ["index", "#", (row) => whole(row.index), true],
  ["id", "id", (row) => el("span", { class: "clip" }, row.id)],
  ["domain", "domain", (row) => row.domain],
  ["tier", "tier", (row) => row.tier ?? "–"],
  ["mean", "pass rate", (row) => percent(row.mean, 1), true],
  ["width", "95% interval", (row) => `${percent(row.low)}–${percent(row.high)}`, true],
  ["change", "change", (row) => points(row.change), true],
  ["offline", "graded", (row) => percent(row.offline), true],
  ["mixed_probability", "P(mixed)", (row) => fixed(row.mixed_probability, 2), true],
  ["state", "state", (row) => ((row.state ?? row.class) ? el("span", { class: "state" }, row.state ?? row.class) : "–")],
  ["seen_at", "last seen", (row) => (row.seen_at === null || row.seen_at < 0 ? "never" : `step ${row.seen_at}`), true],
  [
    "rollouts",
    "rollouts",
    (row) => (row.rollouts ? el("a", { href: href("rollouts", { index: row.index }) }, whole(row.rollouts)) : "0"),
    true,
  ],
  ["pass_rate", "right", (row) => percent(row.pass_rate), true],
];
const OWN = ["search", "domain", "tier", "state", "class", "mean_min", "mean_max", "seen", "sort", "descending", "offset"];
const own = (query) => Object.fromEntries(Object.entries(query).filter(([name]) => OWN.includes(name)));

export async function showProblems({ body, run, query: first, parts: firstParts, signal, attempt }) {
  let [query, parts] = [first, firstParts];
  const filters = el("div", { class: "filters", role: "search" });
  const remark = el("p", { class: "remark", role: "status" });
  const head = el("tr");
  const rows = el("tbody");
  const foot = el("div");
  const table = el(
    "section",
    { class: "card" },
    remark,
    el("div", { class: "scroll" }, el("table", { class: "rows" }, el("thead", {}, head), rows)),
    foot,
  );
  const list = el("div", {}, filters, table);
  const detail = el("div", { hidden: true });
  let detailPage = null;
  replace(body, list, detail);
  const change = (changes) => refine({ offset: "", ...changes });
  const open = (key) => go("problems", query, [key]);
  walkRows(rows, open);

  function drawFilters(found) {
    const counts = (name) =>
      Object.entries(found.facets?.[name] ?? {})
        .sort()
        .map(([value, count]) => [value || NONE, `${value || NONE} · ${whole(count)}`]);
    refilled(
      filters,
      searchField("search", query.search, (value) => change({ search: value }), "part of an id"),
      ...["domain", "tier", "class", "state"]
        .filter((name) => counts(name).length)
        .map((name) => choice(name, counts(name), query[name], (value) => change({ [name]: value }))),
      numberField("pass rate from", query.mean_min, (value) => change({ mean_min: value }), { min: 0, max: 1, step: 0.05 }),
      numberField("to", query.mean_max, (value) => change({ mean_max: value }), { min: 0, max: 1, step: 0.05 }),
      choice(
        "ever drawn",
        [
          ["1", "yes"],
          ["0", "no"],
        ],
        query.seen,
        (value) => change({ seen: value }),
      ),
      el("span", { class: "push" }, el("a", { href: href("problems", { run: run.name }) }, "clear")),
    );
  }
  function drawHead() {
    const sort = query.sort ?? "index";
    const down = query.descending === "1";
    replace(
      head,
      COLUMNS.map(([name, title, , number]) =>
        el(
          "th",
          {
            scope: "col",
            class: number ? "number" : null,
            "aria-sort": name === sort ? (down ? "descending" : "ascending") : null,
          },
          el(
            "button",
            {
              type: "button",
              "data-sort": name,
              onclick: () => change({ sort: name, descending: name === sort && !down ? "1" : "" }),
            },
            title,
            name === sort ? (down ? " ↓" : " ↑") : "",
          ),
        ),
      ),
    );
  }
  async function refreshList(keepFilters = false) {
    const asked = JSON.stringify(own(query));
    const found = await problemPage(run.name, { ...own(query), limit: LIMIT }, signal);
    if (asked !== JSON.stringify(own(query))) return; // filtered anew meanwhile
    if (!keepFilters || !filters.contains(document.activeElement)) drawFilters(found);
    drawHead();
    const focused = rows.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : null;
    replace(
      rows,
      found.rows.map((row) =>
        el(
          "tr",
          { "data-key": String(row.index) },
          COLUMNS.map(([, , cell, number]) => el("td", { class: number ? "number" : null }, cell(row))),
        ),
      ),
    );
    markRow(rows, parts[0] ?? focused);
    if (focused) [...rows.children].find((row) => row.dataset.key === focused)?.focus();
    const reading =
      found.indexed && found.indexed.files < found.indexed.total
        ? ` Counting rollouts: ${found.indexed.files} of ${found.indexed.total} files.`
        : "";
    const sample = found.sample
      ? ` This file holds a sample of ${whole(found.sample.held)} of ${whole(found.sample.total)}.`
      : "";
    replace(remark, `${plural(found.matching, "problem")} of ${whole(found.total)}.${sample}${reading} ${found.note ?? ""}`);
    replace(
      foot,
      pager({
        offset: Number(query.offset ?? 0),
        limit: LIMIT,
        matching: found.matching,
        move: (offset) => refine({ offset: offset || "" }),
      }),
    );
  }
  async function update(next, nextParts, live = false) {
    [query, parts] = [next, nextParts];
    list.hidden = parts.length > 0;
    detail.hidden = parts.length === 0;
    if (!parts.length) detailPage = null;
    if (!parts.length || !rows.children.length) await refreshList(live);
    if (parts.length)
      detailPage = await showProblem({ body: detail, run, index: parts[0], signal, back: href("problems", query) });
    // Where the reader has gone on meanwhile, that update says when it is drawn.
    if (!signal.aborted && query === next && parts === nextParts)
      document.documentElement.dataset.drawn = `problems ${parts.join("/")}`.trim();
  }
  const turn = (by) => {
    const offset = Number(query.offset ?? 0) + by * LIMIT;
    const button = foot.querySelectorAll("button")[by > 0 ? 1 : 0];
    if (!parts.length && button && !button.disabled) refine({ offset: offset || "" });
  };
  const step = (by) => {
    const key = neighbour(rows, parts[0], by);
    if (key !== null) open(key);
  };
  await update(query, parts);
  return {
    update: (next, nextParts) => attempt(() => update(next, nextParts)),
    refresh: () => (parts.length ? detailPage?.refresh() : refreshList(true)),
    keys: {
      ArrowRight: () => turn(1),
      ArrowLeft: () => turn(-1),
      j: () => step(1),
      k: () => step(-1),
      Escape: () => place().parts.length && go("problems", query),
    },
  };
}
