// Several runs in one chart: samplers, algorithms, seeds, against steps, rollouts, tokens or seconds.

import { band, chartCard, label, mark } from "./charts.js";
import { get } from "./data.js";
import { el, replace, table } from "./dom.js";
import { choice } from "./filters.js";
import { compact, duration, percent, significant } from "./format.js";
import { go, href, refine } from "./place.js";

const AXES = [
  ["step", "steps"],
  ["rollouts", "rollouts"],
  ["tokens", "tokens"],
  ["seconds", "seconds"],
];
const isShare = (metric) => /pass_rate$|^heldout|fraction$|^mixed$/.test(metric);

function drawRuns(card, data) {
  const shown = (value) => (isShare(data.metric) ? percent(value, 1) : significant(value));
  const traces = () =>
    data.runs.flatMap((run, place) => {
      const { color, dash, symbol } = mark(place);
      const thin = run.x.length > 40;
      const bands = run.low && run.high ? band(run.name, run.x, run.low, run.high, color) : [];
      return [
        ...bands,
        {
          name: label(run.name),
          x: run.x,
          y: run.y,
          mode: thin ? "lines" : "lines+markers",
          connectgaps: true,
          legendgroup: run.name,
          line: { color, dash, width: 2 },
          marker: { color, symbol, size: 6 },
          customdata: run.x.map(() => run.name),
          hovertemplate: `%{x:,}: %{y}<extra>${label(run.name)}</extra>`,
        },
      ];
    });
  const layout = () => ({
    xaxis: { title: AXES.find(([name]) => name === data.x)[1] },
    yaxis: { title: label(data.metric), tickformat: isShare(data.metric) ? ".0%" : "" },
  });
  return card.draw(traces, layout, {
    select: (point) =>
      point.customdata &&
      data.x === "step" &&
      go("rollouts", {
        run: point.customdata,
        step_from: Math.max(0, point.x),
        step_to: Math.max(0, point.x),
        domain: data.domain,
      }),
    table: () => ({
      head: ["run", AXES.find(([name]) => name === data.x)[1], data.metric],
      rows: data.runs.flatMap((run) =>
        run.x.map((x, at) => [run.name, data.x === "seconds" ? duration(x) : compact(x), shown(run.y[at])]),
      ),
    }),
  });
}

function runTable(data, runs) {
  const head = ["run", "sampler", "advantage", "seed", "first", "last", "best", `at ${data.x}`, "note"];
  const shown = (value) => (isShare(data.metric) ? percent(value, 1) : significant(value));
  const row = (one) => {
    const known = one.y.map((y, at) => [y, one.x[at]]).filter(([y]) => y !== null);
    const best = known.reduce((most, pair) => (most === null || pair[0] > most[0] ? pair : most), null);
    return [
      el("a", { href: href("overview", { run: one.name }) }, one.name),
      one.sampler ?? "–",
      one.advantage ?? "–",
      String(one.seed ?? "–"),
      shown(known[0]?.[0]),
      shown(known.at(-1)?.[0]),
      shown(best?.[0]),
      best ? (data.x === "seconds" ? duration(best[1]) : compact(best[1])) : "–",
      one.note ?? runs.find((run) => run.name === one.name)?.note ?? "",
    ];
  };
  return table(head, data.runs.map(row));
}

export async function showCompare({ body, runs: firstRuns, query: first, signal, attempt }) {
  let [query, runs] = [first, firstRuns];
  const filters = el("div", { class: "filters" });
  const chart = chartCard("Runs", { tall: true, wide: true });
  const table = el("div", { class: "scroll" });
  replace(body, filters, el("div", { class: "grid" }, chart.node, el("section", { class: "card wide" }, table)));
  async function refresh(_, news = runs) {
    runs = news;
    const data = await get("/api/compare", { metric: query.metric, x: query.x, domain: query.domain }, signal);
    const left = (query.without ?? "").split(",").filter(Boolean);
    const boxes = data.runs.map((run) =>
      el(
        "label",
        {},
        el("input", {
          type: "checkbox",
          checked: !left.includes(run.name),
          onchange: (event) =>
            refine({
              without: [...left.filter((name) => name !== run.name), ...(event.target.checked ? [] : [run.name])].join(","),
            }),
        }),
        run.name,
      ),
    );
    replace(
      filters,
      choice("metric", data.metrics, data.metric, (value) => refine({ metric: value }), null),
      choice("domain", data.domains.filter(Boolean), query.domain, (value) => refine({ domain: value })),
      choice("against", AXES, data.x, (value) => refine({ x: value }), null),
      data.runs.length > 1 ? el("fieldset", { class: "boxes" }, el("legend", { class: "unseen" }, "runs"), boxes) : null,
    );
    const kept = { ...data, runs: data.runs.filter((run) => !left.includes(run.name)) };
    chart.say(
      data.runs.length < 2
        ? "Only one run is served: name several (`rlcs dashboard RUN RUN`) to compare them."
        : data.x === "step"
          ? "Click a point for its rollouts."
          : "",
    );
    replace(table, runTable(kept, runs));
    await drawRuns(chart, kept);
    if (!signal.aborted) document.documentElement.dataset.drawn = "compare";
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
