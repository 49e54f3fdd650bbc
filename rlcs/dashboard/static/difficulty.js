// How hard the problems are now: what the sampler believes, how that moved, and whether it is right.

import { chartCard } from "./charts.js";
import { get, runPath } from "./data.js";
import { drawClasses, drawFlow, drawHeat, drawLines, drawOffline, drawReliability } from "./difficulty_charts.js";
import { el, replace, table } from "./dom.js";
import { choice } from "./filters.js";
import { percent, points, whole } from "./format.js";
import { href, refine } from "./place.js";

function cellTable(cells, classes) {
  const head = ["domain", "tier", "problems", "at first", "now", "change", "graded", "seen", ...classes];
  const row = (cell) => [
    el("a", { href: href("problems", { domain: cell.domain, tier: cell.tier }) }, cell.domain),
    cell.tier || "–",
    whole(cell.problems),
    percent(cell.first_mean, 1),
    percent(cell.last_mean, 1),
    points(cell.last_mean === null || cell.first_mean === null ? null : cell.last_mean - cell.first_mean),
    percent(cell.offline_mean, 1),
    percent(cell.coverage),
    ...classes.map((name) =>
      cell.classes[name]
        ? el("a", { href: href("problems", { domain: cell.domain, tier: cell.tier, class: name }) }, whole(cell.classes[name]))
        : "–",
    ),
  ];
  return table(head, cells.map(row), (at) => ({ class: at > 1 ? "number" : null }));
}

export async function showDifficulty({ body, run, query: first, signal, attempt }) {
  let query = first;
  const filters = el("div", { class: "filters" });
  const heat = chartCard("Posterior pass rate over time", { tall: true });
  const classes = chartCard("What the sampler does with them", { tall: true });
  const flow = chartCard("Flow between two snapshots", { tall: true });
  const reliability = chartCard("Are its beliefs right?", { tall: true });
  const brier = chartCard("Brier score of a group's pass rate", {
    note: "Mean squared error of the prediction made before the group; lower is better.",
  });
  const coverage = chartCard("Problems ever seen");
  const age = chartCard("Age of what is known", { note: "Updates since the seen problems were, on average." });
  const weights = chartCard("Domain shares in force");
  const expansion = chartCard("Groups drawn for each wanted");
  const offline = chartCard("Offline grade against now");
  const cells = el("div", { class: "scroll" });
  for (const card of [heat, classes, flow, reliability]) card.node.classList.add("half");
  replace(
    body,
    filters,
    el(
      "div",
      { class: "grid" },
      heat.node,
      classes.node,
      flow.node,
      reliability.node,
      coverage.node,
      age.node,
      brier.node,
      weights.node,
      expansion.node,
      offline.node,
      el("section", { class: "card wide" }, el("header", {}, el("h2", {}, "Domains and tiers")), cells),
    ),
  );

  function drawFilters(data, flows) {
    const steps = flows.steps.map((step) => [String(step), `step ${step}`]);
    replace(
      filters,
      choice("domain", data.domains, query.domain, (value) => refine({ domain: value })),
      choice(
        "tier",
        data.tiers.map((tier) => [tier, tier || "(none)"]),
        query.tier,
        (value) => refine({ tier: value }),
      ),
      choice("flow from", steps, String(flows.from), (value) => refine({ from: value }), null),
      choice("flow to", steps, String(flows.to), (value) => refine({ to: value }), null),
      choice(
        "beliefs about",
        [
          ["pass_rate", "pass rate"],
          ["mixed", "mixed groups"],
        ],
        query.quantity ?? "pass_rate",
        (value) => refine({ quantity: value }),
        null,
      ),
      data.snapshots.ready < data.snapshots.total
        ? el("span", { class: "note" }, `reading snapshot ${data.snapshots.ready} of ${data.snapshots.total}…`)
        : null,
    );
  }
  async function refresh() {
    const part = { domain: query.domain, tier: query.tier };
    const [data, overview, flows] = await Promise.all([
      get(runPath(run.name, "difficulty"), part, signal),
      get(runPath(run.name, "overview"), {}, signal),
      get(runPath(run.name, "flow"), { ...part, from: query.from, to: query.to }, signal),
    ]);
    drawFilters(data, flows);
    const sampler = overview.sampler ?? {};
    const brierOf = Object.fromEntries(
      Object.entries(sampler.brier ?? {}).map(([domain, both]) => [domain, both[query.quantity ?? "pass_rate"]]),
    );
    replace(cells, cellTable(data.cells, data.classes), data.note ? el("p", { class: "remark" }, data.note) : null);
    await Promise.all([
      drawHeat(heat, data, query),
      drawClasses(classes, data, query),
      drawFlow(flow, flows, query),
      drawReliability(reliability, data, query.quantity ?? "pass_rate", query.domain ?? ""),
      drawLines(coverage, overview, sampler.coverage, { yaxis: { tickformat: ".0%", rangemode: "tozero" } }),
      drawLines(age, overview, sampler.age, { yaxis: { rangemode: "tozero" } }),
      drawLines(brier, overview, brierOf, { yaxis: { rangemode: "tozero" } }),
      drawLines(weights, overview, sampler.domain_share, { yaxis: { tickformat: ".0%", rangemode: "tozero" } }),
      drawLines(expansion, overview, sampler.expansion, { yaxis: { rangemode: "tozero" } }),
      drawOffline(offline, data.offline),
    ]);
    if (!signal.aborted) document.documentElement.dataset.drawn = "difficulty";
  }
  await refresh();
  return {
    refresh,
    update(next) {
      query = next;
      return attempt(refresh);
    },
  };
}
