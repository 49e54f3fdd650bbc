// Rollouts by step, domain, reward, status and reason; the one that is read stands beside the list.

import { address, exported, runPath } from "./data.js";
import { el, replace } from "./dom.js";
import { choice, NONE, numberField, pager, refilled, searchField } from "./filters.js";
import { fixed, percent, plural, whole } from "./format.js";
import { markRow, neighbour, walkRows } from "./keys.js";
import { rolloutPage } from "./lists.js";
import { go, href, refine } from "./place.js";
import { verdictBadge } from "./problem.js";
import { showRollout } from "./rollout.js";

const LIMIT = 50;
const OWN = [
  "step_from",
  "step_to",
  "domain",
  "tier",
  "reward_min",
  "reward_max",
  "status",
  "reason",
  "fate",
  "finish",
  "correct",
  "thinking",
  "index",
  "search",
  "order",
  "offset",
];
const ORDERS = [
  ["newest", "newest first"],
  ["oldest", "oldest first"],
  ["-reward", "highest reward"],
  ["reward", "lowest reward"],
  ["-tokens", "longest"],
  ["tokens", "shortest"],
];
const WORDS = {
  correct: { true: "right", false: "wrong", null: "not told" },
  thinking: { true: "thinking", false: "non-thinking", null: "unknown" },
};
const rolloutQuery = (query) => Object.fromEntries(Object.entries(query).filter(([name]) => OWN.includes(name)));

// The spread of rewards as buttons that filter by them.
function rewardBars(histogram, change) {
  if (!histogram) return null;
  const most = Math.max(1, ...histogram.count);
  const bars = histogram.count.map((count, at) => {
    const [low, high] = [histogram.edges[at], histogram.edges[at + 1]];
    const words = `reward ${fixed(low)} to ${fixed(high)}: ${whole(count)}`;
    const height = count ? `${Math.max(8, 100 * Math.sqrt(count / most))}%` : "1px";
    return el(
      "button",
      {
        type: "button",
        class: "bar",
        title: words,
        "aria-label": words,
        disabled: !count,
        onclick: () => change({ reward_min: String(low), reward_max: String(high) }),
      },
      el("span", { style: { height } }),
    );
  });
  return el("div", { class: "bars", role: "group", "aria-label": "rewards" }, bars);
}

export async function showRollouts({ body, run, query: first, parts: firstParts, signal, attempt }) {
  let [query, parts] = [first, firstParts];
  const filters = el("div", { class: "filters", role: "search" });
  const remark = el("p", { class: "remark", role: "status" });
  const rewards = el("div");
  const rows = el("tbody");
  const foot = el("div");
  const list = el(
    "section",
    { class: "card list" },
    remark,
    rewards,
    el(
      "table",
      { class: "rows" },
      el("colgroup", {}, el("col"), el("col", { class: "verdicts" })),
      el(
        "thead",
        { class: "unseen" },
        el(
          "tr",
          {},
          ["rollout", "verdict"].map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      rows,
    ),
    foot,
  );
  const detail = el("section", { class: "card detail", "aria-label": "Rollout", tabindex: "-1" });
  const split = el("div", { class: "split" }, list, detail);
  replace(body, filters, split);
  const change = (changes) => {
    refine({ offset: "", ...changes });
  };
  const open = (key) => {
    history.replaceState(null, "", href("rollouts", query, key.split("/")));
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  };
  walkRows(rows, open);

  function drawFilters(found) {
    const facet = (name) => {
      const counts = Object.entries(found.facets?.[name] ?? {}).sort((a, b) => b[1] - a[1]);
      if (counts.length < 2 && !query[name]) return null;
      return choice(
        name,
        counts.map(([value, count]) => [value || NONE, `${WORDS[name]?.[value] ?? (value || NONE)} · ${whole(count)}`]),
        query[name],
        (value) => change({ [name]: value }),
      );
    };
    const shared = rolloutQuery({ ...query, offset: "" });
    refilled(
      filters,
      searchField("search", query.search, (value) => change({ search: value }), "in question, response, id"),
      numberField("step from", query.step_from, (value) => change({ step_from: value }), {
        min: 0,
        placeholder: found.steps?.first ?? "",
      }),
      numberField("step to", query.step_to, (value) => change({ step_to: value }), {
        min: 0,
        placeholder: found.steps?.last ?? "",
      }),
      ["domain", "tier", "correct", "status", "reason", "fate", "finish", "thinking"].map(facet),
      numberField("reward from", query.reward_min, (value) => change({ reward_min: value }), { min: 0, max: 1, step: 0.05 }),
      numberField("reward to", query.reward_max, (value) => change({ reward_max: value }), { min: 0, max: 1, step: 0.05 }),
      query.index ? numberField("problem", query.index, (value) => change({ index: value }), { min: 0 }) : null,
      choice("order", ORDERS, query.order ?? "newest", (value) => change({ order: value }), null),
      el(
        "span",
        { class: "push" },
        el("a", { href: href("rollouts", { run: run.name }), id: "clear" }, "clear"),
        exported
          ? null
          : el("a", { href: address(runPath(run.name, "rollouts.jsonl"), shared), download: "", id: "jsonl" }, "save as JSONL"),
      ),
    );
  }
  function rowNode(row) {
    return el(
      "tr",
      { "data-key": `${row.step}/${row.row}` },
      el(
        "td",
        {},
        el("span", { class: "note" }, `${row.step} · ${row.domain} · ${row.id}`),
        el("span", { class: "clip" }, row.response.split("</think>").at(-1).trim() || row.response),
      ),
      el(
        "td",
        { class: "number" },
        verdictBadge(row),
        el("br"),
        el("span", { class: "note" }, `${fixed(row.reward)}${row.reason ? ` ${row.reason}` : ""}`),
      ),
    );
  }
  async function refreshList(live = false) {
    const asked = JSON.stringify(rolloutQuery(query));
    const found = await rolloutPage(run.name, { ...rolloutQuery(query), limit: LIMIT }, signal);
    if (asked !== JSON.stringify(rolloutQuery(query))) return null; // filtered anew meanwhile
    if (!live || !filters.contains(document.activeElement)) drawFilters(found);
    const focused = rows.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : null;
    replace(rows, found.rows.map(rowNode));
    markRow(rows, parts.join("/"));
    if (focused) [...rows.children].find((row) => row.dataset.key === focused)?.focus();
    const notes = [
      found.sample ? `This file holds a sample of ${whole(found.sample.held)} of ${whole(found.sample.total)}.` : "",
      found.search && !found.search.complete ? `Searched the newest ${whole(found.search.scanned)} only.` : "",
      found.indexed.files < found.indexed.total
        ? `Reading file ${whole(found.indexed.files)} of ${whole(found.indexed.total)}…`
        : "",
    ];
    replace(
      remark,
      `${plural(found.matching, "rollout")} of ${whole(found.total)}${found.total ? ` (${percent(found.matching / found.total, 1)})` : ""}. ${notes.filter(Boolean).join(" ")}`,
    );
    replace(rewards, rewardBars(found.reward_histogram, change));
    replace(
      foot,
      pager({
        offset: Number(query.offset ?? 0),
        limit: LIMIT,
        matching: found.matching,
        move: (offset) => refine({ offset: offset || "" }),
      }),
    );
    return found;
  }
  const toggle = (name, on) => () => refine({ [name]: query[name] === on ? "" : on });
  async function showDetail() {
    if (!parts.length) {
      replace(
        detail,
        el(
          "p",
          { class: "remark" },
          rows.children.length
            ? "Choose a rollout: click, or ↑ ↓ and Enter; j and k go from one to the next."
            : "No rollout matches.",
        ),
      );
      return;
    }
    const chosenNow = parts.join("/");
    await showRollout({
      wanted: () => parts.join("/") === chosenNow,
      body: detail,
      run,
      at: { step: parts[0], row: parts[1] },
      query,
      signal,
      toggleGroup: toggle("group", "1"),
      toggleColour: toggle("colour", "tokens"),
      back: href("rollouts", query),
      step,
    });
    const chosen = markRow(rows, parts.join("/"));
    chosen?.scrollIntoView({ block: "nearest" });
  }
  let listed = null;
  async function update(next, nextParts) {
    [query, parts] = [next, nextParts];
    split.classList.toggle("reading", parts.length > 0);
    const wanted = JSON.stringify(rolloutQuery(query));
    if (wanted !== listed) {
      const found = await refreshList();
      if (!found) return;
      listed = wanted;
      const held = found.rows.some((row) => `${row.step}/${row.row}` === parts.join("/"));
      // On a wide screen there is room to read one at once.
      if (!held && !parts.length && found.rows.length && matchMedia("(min-width: 1001px)").matches)
        return open(`${found.rows[0].step}/${found.rows[0].row}`);
    }
    await showDetail();
    // Where the reader has gone on meanwhile, that update says when it is drawn.
    if (!signal.aborted && query === next && parts === nextParts)
      document.documentElement.dataset.drawn = `rollouts ${parts.join("/")}`.trim();
  }
  const step = (by) => {
    const key = neighbour(rows, parts.join("/"), by);
    if (key !== null) open(key);
    else foot.querySelectorAll("button")[by > 0 ? 1 : 0]?.click();
  };
  const page = (by) => foot.querySelectorAll("button")[by > 0 ? 1 : 0]?.click();
  await update(query, parts);
  return {
    update: (next, nextParts) => attempt(() => update(next, nextParts)),
    refresh: () => refreshList(true),
    keys: {
      j: () => step(1),
      k: () => step(-1),
      g: toggle("group", "1"),
      ArrowRight: () => page(1),
      ArrowLeft: () => page(-1),
      Escape: () => go("rollouts", query),
    },
  };
}
