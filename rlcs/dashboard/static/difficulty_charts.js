// The charts of the difficulty page.

import { ink, label, mark } from "./charts.js";
import { fixed, percent, plural, whole } from "./format.js";
import { go } from "./place.js";

const CLASS_COLOURS = {
  "too hard": ["#D55E00", "\\"],
  moderate: ["#009E73", ""],
  mastered: ["#56B4E9", "/"],
  deferred: ["#E69F00", "x"],
  due: ["#B8A800", "."],
  resting: ["#CC79A7", "-"],
  retired: ["#0072B2", "|"],
};
const classColour = (name) => CLASS_COLOURS[name] ?? ["#888888", "+"];

export function drawHeat(card, data, query) {
  const edges = Array.from({ length: data.bins }, (_, index) => (index + 0.5) / data.bins);
  const shares = edges.map((_, bin) => data.count.map((counts, at) => counts[bin] / Math.max(1, data.problems[at])));
  const ticks = [0.01, 0.05, 0.2, 0.5, 1];
  const columns = data.step.map(String);
  card.say(
    data.step.length
      ? `Share of ${plural(data.problems.at(-1), "problem")} by the mean of the posterior${data.window ? `; between the dashed lines lies the window ${data.window[0]} to ${data.window[1]}` : ""}. Shade: root of the share.`
      : "No snapshot of the difficulties yet.",
  );
  const traces = () => [
    {
      type: "heatmap",
      x: columns,
      y: edges,
      z: shares.map((row) => row.map((share) => Math.sqrt(share))),
      customdata: shares,
      zmin: 0,
      zmax: 1,
      colorscale: "Cividis",
      xgap: 1,
      colorbar: {
        tickvals: ticks.map(Math.sqrt),
        ticktext: ticks.map((share) => percent(share)),
        thickness: 10,
        outlinewidth: 0,
        len: 1,
      },
      hovertemplate: "step %{x}, pass rate near %{y:.3f}: %{customdata:.1%} of the problems<extra></extra>",
    },
    {
      x: columns,
      y: data.mean,
      mode: "lines+markers",
      line: { color: "#ffffff", width: 2 },
      marker: { color: "#000000", size: 5, line: { color: "#ffffff", width: 1 } },
      hovertemplate: "step %{x}: mean %{y:.3f}<extra></extra>",
      showlegend: false,
    },
  ];
  const lines = (data.window ?? []).map((edge) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: edge,
    y1: edge,
    line: { color: "#ffffff", width: 2, dash: "dash" },
  }));
  return card.draw(
    traces,
    () => ({
      xaxis: { title: "step of the snapshot", type: "category", nticks: 12, range: [-0.5, columns.length - 0.5] },
      yaxis: { range: [0, 1], title: "posterior pass rate" },
      shapes: lines,
    }),
    {
      select: (point) => {
        if (point.data.type !== "heatmap") return;
        const bin = Math.floor(point.y * data.bins);
        go("problems", {
          domain: query.domain,
          tier: query.tier,
          mean_min: fixed(bin / data.bins, 2),
          mean_max: fixed((bin + 1) / data.bins, 2),
        });
      },
      table: () => ({
        head: ["step", "problems", "mean", ...edges.map((edge) => `≈${fixed(edge, 2)}`)],
        rows: data.step
          .map((step, at) => [String(step), whole(data.problems[at]), fixed(data.mean[at], 3), ...data.count[at].map(whole)])
          .reverse(),
      }),
    },
  );
}

export function drawClasses(card, data, query) {
  const names = data.classes;
  const traces = () =>
    names.map((name) => ({
      name,
      x: data.step,
      y: data.class_counts[name],
      stackgroup: "one",
      mode: "lines",
      line: { width: 1, color: classColour(name)[0] },
      fillcolor: classColour(name)[0],
      fillpattern: {
        shape: classColour(name)[1],
        size: 6,
        solidity: 0.15,
        fgcolor: ink().card,
        bgcolor: classColour(name)[0],
        fillmode: "replace",
      },
      hovertemplate: `step %{x}: %{y:,} ${label(name)}<extra></extra>`,
    }));
  return card.draw(
    traces,
    () => ({ yaxis: { title: "problems", rangemode: "tozero" }, xaxis: { title: "step", tickformat: ",d" } }),
    {
      select: (point) => go("problems", { class: point.data.name, domain: query.domain, tier: query.tier }),
      table: () => ({
        head: ["step", ...names],
        rows: data.step.map((step, at) => [String(step), ...names.map((name) => whole(data.class_counts[name][at]))]).reverse(),
      }),
    },
  );
}

export function drawFlow(card, flow, query) {
  const moved = flow.count
    .flatMap((row, from) => row.map((count, to) => ({ from, to, count })))
    .filter(({ count }) => count > 0);
  const stayed = moved.filter(({ from, to }) => from === to).reduce((sum, { count }) => sum + count, 0);
  const all = moved.reduce((sum, { count }) => sum + count, 0);
  const names = flow.classes;
  card.say(
    `From step ${flow.from} to step ${flow.to} ${percent(all ? 1 - stayed / all : 0)} of the problems changed their class.`,
  );
  const totals = (at, side) => moved.filter((one) => one[side] === at).reduce((sum, { count }) => sum + count, 0);
  const used = (side) => names.map((_, at) => at).filter((at) => totals(at, side) > 0);
  const [left, right] = [used("from"), used("to")];
  const traces = () => [
    {
      type: "sankey",
      arrangement: "snap",
      node: {
        label: [...left.map((at) => label(names[at])), ...right.map((at) => label(names[at]))],
        pad: 12,
        thickness: 14,
        line: { width: 0 },
        customdata: [...left, ...right].map((at) => names[at]),
        color: [...left, ...right].map((at) => classColour(names[at])[0]),
        hovertemplate: "%{label}: %{value:,} problems<extra></extra>",
      },
      link: {
        source: moved.map(({ from }) => left.indexOf(from)),
        target: moved.map(({ to }) => left.length + right.indexOf(to)),
        value: moved.map(({ count }) => count),
        color: moved.map(({ from }) => `${classColour(names[from])[0]}55`),
        hovertemplate: "%{source.label} → %{target.label}: %{value:,} problems<extra></extra>",
      },
    },
  ];
  return card.draw(traces, () => ({ margin: { l: 8, r: 8, t: 8, b: 8 } }), {
    select: (point) => {
      const name = point.customdata ?? point.target?.customdata;
      if (name) go("problems", { class: name, domain: query.domain, tier: query.tier });
    },
    table: () => ({
      head: ["from", "to", "problems"],
      rows: [...moved].sort((a, b) => b.count - a.count).map(({ from, to, count }) => [names[from], names[to], whole(count)]),
    }),
  });
}

export function drawReliability(card, data, quantity, domain) {
  const cells = data.calibration?.quantities?.[quantity]?.[domain] ?? [];
  const error = data.calibration?.error?.[quantity]?.[domain];
  card.say(
    cells.length
      ? `What the sampler foresaw of each group against what came; off by ${percent(error, 1)} on average.`
      : "Nothing has been compared yet.",
  );
  const traces = () => {
    const { color, symbol } = mark(0);
    const most = Math.max(1, ...cells.map((cell) => cell.groups));
    return [
      {
        x: [0, 1],
        y: [0, 1],
        mode: "lines",
        line: { color: ink().muted, dash: "dash", width: 1 },
        hoverinfo: "skip",
        showlegend: false,
      },
      {
        x: cells.map((cell) => cell.predicted),
        y: cells.map((cell) => cell.observed),
        mode: "markers",
        showlegend: false,
        error_y: {
          type: "data",
          symmetric: false,
          array: cells.map((cell) => cell.high - cell.observed),
          arrayminus: cells.map((cell) => cell.observed - cell.low),
          color,
          thickness: 1,
          width: 2,
        },
        marker: { color, symbol, size: cells.map((cell) => 5 + 9 * Math.sqrt(cell.groups / most)), opacity: 0.85 },
        customdata: cells.map((cell) => cell.groups),
        hovertemplate: "foreseen %{x:.3f}, came %{y:.3f}, %{customdata:,} groups<extra></extra>",
      },
    ];
  };
  return card.draw(
    traces,
    () => ({ xaxis: { range: [-0.02, 1.02], title: "predicted" }, yaxis: { range: [-0.02, 1.02], title: "observed" } }),
    {
      table: () => ({
        head: ["predicted", "observed", "interval", "groups"],
        rows: cells.map((cell) => [
          fixed(cell.predicted, 3),
          fixed(cell.observed, 3),
          `${fixed(cell.low, 3)} to ${fixed(cell.high, 3)}`,
          whole(cell.groups),
        ]),
      }),
    },
  );
}

// A line for each name over the run's steps, from what the sampler reports.
export function drawLines(card, overview, series, layout = {}) {
  const names = Object.keys(series ?? {})
    .filter((name) => series[name]?.some((value) => value !== null))
    .sort();
  card.node.hidden = names.length === 0;
  if (!names.length) return Promise.resolve();
  const traces = () =>
    names.map((name, at) => {
      const { color, dash } = mark(
        name === "" ? 6 : Math.max(0, overview.domains.includes(name) ? overview.domains.indexOf(name) : at),
      );
      const values = series[name].map((value, index) => ({ value, index })).filter(({ value }) => value !== null);
      return {
        name: label(name || "all"),
        x: values.map(({ index }) => overview.step[index]),
        y: values.map(({ value }) => value),
        customdata: values.map(({ index }) => index),
        mode: "lines",
        line: { color, dash, width: 1.6 },
      };
    });
  return card.draw(traces, () => ({ xaxis: { title: "step", tickformat: ",d" }, ...layout }), {
    select: (point, domain = names[point.curveNumber]) =>
      go("rollouts", {
        step_from: overview.step_from[point.customdata],
        step_to: overview.step[point.customdata],
        domain: overview.domains.includes(domain) ? domain : "",
      }),
    table: () => ({
      head: ["step", ...names.map((name) => name || "all")],
      rows: overview.step.map((step, at) => [String(step), ...names.map((name) => fixed(series[name][at], 3))]).reverse(),
    }),
  });
}

export function drawOffline(card, offline) {
  card.node.hidden = offline === null;
  if (offline === null) return Promise.resolve();
  card.say(
    offline.count
      ? `${plural(offline.known, "problem")} with a grade; correlation ${fixed(offline.correlation, 2)}. On the diagonal the policy finds them as hard as graded.`
      : (offline.note ?? ""),
  );
  card.plot.hidden = !offline.count;
  if (!offline.count) return Promise.resolve();
  const middles = Array.from({ length: offline.bins }, (_, at) => (at + 0.5) / offline.bins);
  const traces = () => [
    {
      type: "heatmap",
      x: middles,
      y: middles,
      z: offline.count[0].map((_, now) => offline.count.map((row) => Math.sqrt(row[now]))),
      customdata: offline.count[0].map((_, now) => offline.count.map((row) => row[now])),
      colorscale: "Cividis",
      showscale: false,
      hovertemplate: "graded %{x:.2f}, now %{y:.2f}: %{customdata:,} problems<extra></extra>",
    },
    {
      x: [0, 1],
      y: [0, 1],
      mode: "lines",
      line: { color: "#ffffff", dash: "dash", width: 1 },
      hoverinfo: "skip",
      showlegend: false,
    },
  ];
  return card.draw(
    traces,
    () => ({ xaxis: { title: "graded before the run", range: [0, 1] }, yaxis: { title: "believed now", range: [0, 1] } }),
    {
      table: () => ({
        head: ["graded \\ now", ...middles.map((middle) => fixed(middle, 2))],
        rows: offline.count.map((row, at) => [fixed(middles[at], 2), ...row.map(whole)]),
      }),
    },
  );
}
