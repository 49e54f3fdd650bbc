// The charts of the overview. Every point knows the steps and the domain whose rollouts it stands for.

import { band, ink, label, mark, translucent } from "./charts.js";
import { el } from "./dom.js";
import { compact, fixed, percent, significant, whole } from "./format.js";
import { go, href } from "./place.js";

const SHARES = [
  ["mixed", "mixed (signal)", "#009E73", ""],
  ["all_right", "all right", "#56B4E9", "/"],
  ["all_wrong", "all wrong", "#E69F00", "\\"],
  ["abstained_groups", "no score", "#999999", "."],
];
const PARTS = ["generate", "train", "score", "draw", "select", "log"];

export const last = (values) => (values ?? []).findLast((value) => value !== null && value !== undefined) ?? null;

// The steps that a point stands for: long runs are thinned to some hundreds of points.
function behind(data, index, domain) {
  return { step_from: data.step_from[index], step_to: data.step[index], domain };
}

export function drawDomain(card, data, domain, place) {
  const training = data.training[domain];
  const heldout = data.heldout?.domains?.[domain];
  const judged = data.verdict.domains?.[domain];
  card.say((judged?.sentence ?? "").replace(`${domain}: `, ""));
  const range = [Math.min(-1, ...(heldout?.pass_rate ? data.heldout.step : [])) - 0.5, (data.step.at(-1) ?? 0) + 1];
  const traces = () => {
    const { color, symbol } = mark(place);
    const { muted } = ink();
    const quiet = heldout ? muted : color;
    const out = [
      ...band("training", data.step, training.low, training.high, quiet, { legendgroup: "training" }),
      {
        name: "training (problems the sampler chose)",
        x: data.step,
        y: training.pass_rate,
        mode: "lines+markers",
        connectgaps: true,
        legendgroup: "training",
        line: { color: quiet, width: heldout ? 1 : 1.6, dash: heldout ? "dot" : "solid" },
        marker: { color: quiet, size: heldout ? 3 : 4, symbol: heldout ? "circle" : symbol },
        customdata: data.step.map((_, index) => index),
        hovertemplate: "step %{x}: %{y:.1%}<extra>training</extra>",
      },
    ];
    if (heldout) {
      out.push(...band("heldout", data.heldout.step, heldout.low, heldout.high, color), {
        name: "held out",
        x: data.heldout.step,
        y: heldout.pass_rate,
        mode: "lines+markers",
        line: { color, width: 2.2 },
        marker: { color, size: 7, symbol },
        text: data.heldout.updates.map(
          (updates, index) =>
            `after ${updates} updates: ${percent(heldout.pass_rate[index], 1)} (${percent(heldout.low[index], 1)} to ${percent(heldout.high[index], 1)})`,
        ),
        hovertemplate: "%{text}<extra>held out</extra>",
      });
    }
    return out;
  };
  const layout = () => ({
    yaxis: { range: [0, 1], tickformat: ".0%" },
    xaxis: { title: "step", range, tickformat: ",d" },
    legend: { traceorder: "reversed" },
  });
  return card.draw(traces, layout, {
    select: (point) =>
      go(
        "rollouts",
        point.customdata === undefined
          ? { domain, step_from: Math.max(0, point.x), step_to: Math.max(0, point.x) }
          : behind(data, point.customdata, domain),
      ),
    table: () => ({
      head: ["steps", "training", "interval", "groups", "mixed"],
      rows: data.step
        .map((step, index) => [
          el("a", { href: href("rollouts", behind(data, index, domain)) }, String(step)),
          percent(training.pass_rate[index], 1),
          `${percent(training.low?.[index], 1)} to ${percent(training.high?.[index], 1)}`,
          whole(training.groups?.[index]),
          percent(training.mixed?.[index]),
        ])
        .reverse(),
    }),
  });
}

export function drawShares(card, data, domain) {
  const training = data.training[domain];
  const kept = SHARES.filter(([name]) => training?.[name]?.some((value) => value));
  const traces = () =>
    kept.map(([name, title, colour, shape]) => ({
      name: title,
      x: data.step,
      y: training[name],
      type: "bar",
      marker: {
        color: translucent(colour, 0.85),
        line: { width: 0 },
        pattern: { shape, size: 4, solidity: 0.18, fgcolor: ink().card, fillmode: "overlay" },
      },
      customdata: data.step.map((_, index) => index),
      hovertemplate: `step %{x}: %{y:.0%} ${title}<extra></extra>`,
    }));
  return card.draw(
    traces,
    () => ({
      barmode: "stack",
      bargap: data.step.length > 60 ? 0 : 0.1,
      yaxis: { range: [0, 1], tickformat: ".0%", title: "of groups" },
      xaxis: { title: "step", tickformat: ",d" },
    }),
    {
      select: (point) => go("rollouts", behind(data, point.customdata, domain)),
      table: () => ({
        head: ["step", ...kept.map(([, title]) => title)],
        rows: data.step
          .map((step, index) => [
            el("a", { href: href("rollouts", behind(data, index, domain)) }, String(step)),
            ...kept.map(([name]) => percent(training[name][index])),
          ])
          .reverse(),
      }),
    },
  );
}

export function drawSpend(card, data) {
  const names = data.domains;
  const bars = [
    ["trained on", (one) => one.tokens - one.tokens_wasted, "#0072B2", ""],
    ["wasted", (one) => one.tokens_wasted, "#E69F00", "/"],
  ];
  const traces = () =>
    bars.map(([name, part, colour, shape]) => ({
      name,
      type: "bar",
      orientation: "h",
      y: names.map(label),
      x: names.map((domain) => part(data.totals.domains[domain])),
      customdata: names,
      textposition: "inside",
      insidetextanchor: "middle",
      text: names.map((domain) => percent(part(data.totals.domains[domain]) / Math.max(1, data.totals.domains[domain].tokens))),
      marker: { color: colour, pattern: { shape, size: 5, solidity: 0.15, fgcolor: "#fff", fillmode: "overlay" } },
      hovertemplate: `%{y}: %{x:,.0f} tokens ${name}<extra></extra>`,
    }));
  return card.draw(
    traces,
    () => ({ barmode: "stack", xaxis: { title: "tokens generated" }, yaxis: { autorange: "reversed" } }),
    {
      select: (point) =>
        go("rollouts", { domain: point.customdata, ...(point.data.name === "trained on" ? { fate: "trained" } : {}) }),
      table: () => ({
        head: ["domain", "rollouts", "wasted", "tokens", "wasted"],
        rows: names.map((domain) => {
          const one = data.totals.domains[domain];
          return [
            el("a", { href: href("rollouts", { domain }) }, domain),
            whole(one.rollouts),
            whole(one.rollouts_wasted),
            whole(one.tokens),
            whole(one.tokens_wasted),
          ];
        }),
      }),
    },
  );
}

export function drawSpeed(card, data) {
  const seconds = data.speed?.seconds ?? {};
  const known = [
    ...PARTS.filter((name) => seconds[name]),
    ...Object.keys(seconds).filter((name) => !PARTS.includes(name) && name !== "step" && !name.endsWith("idle")),
  ];
  const shapes = ["", "/", "\\", "x", ".", "-", "|", "+"];
  const traces = () =>
    known.map((name, index) => ({
      name,
      x: data.step,
      y: seconds[name],
      type: "bar",
      marker: {
        color: mark(index).color,
        pattern: { shape: shapes[index % shapes.length], size: 4, solidity: 0.2, fgcolor: ink().card, fillmode: "overlay" },
      },
      hovertemplate: `step %{x}: %{y:.2f} s ${label(name)}<extra></extra>`,
    }));
  const rates = data.speed?.tokens_per_s ?? {};
  card.say(
    Object.entries(rates)
      .filter(([, values]) => last(values) !== null)
      .map(([name, values]) => `${name} ${compact(Math.round(last(values)))} tokens/s`)
      .join(" · "),
  );
  return card.draw(
    traces,
    () => ({
      barmode: "stack",
      bargap: data.step.length > 60 ? 0 : 0.1,
      yaxis: { title: "seconds a step" },
      xaxis: { title: "step", tickformat: ",d" },
    }),
    {
      select: (point) => go("rollouts", behind(data, point.pointIndex, "")),
      table: () => ({
        head: ["step", ...known],
        rows: data.step.map((step, index) => [String(step), ...known.map((name) => fixed(seconds[name][index], 2))]).reverse(),
      }),
    },
  );
}

// How answers fail to be answers, and how close the policy stays to what generated them.
export function drawHealth(card, data) {
  const pooled = data.training[""] ?? {};
  const lines = [
    ["truncated", "truncated"],
    ["format_errors", "format errors"],
    ["abstained", "no score"],
    ["repetition", "repetition"],
    ["forced", "thought cut short"],
  ];
  const kept = lines.filter(([name]) => pooled[name]?.some((value) => value !== null));
  const traces = () =>
    kept.map(([name, title], index) => {
      const { color, dash } = mark(index);
      return {
        name: title,
        x: data.step,
        y: pooled[name],
        mode: "lines",
        line: { color, dash, width: 1.5 },
        hovertemplate: `step %{x}: %{y:.1%} ${title}<extra></extra>`,
      };
    });
  const gap = last(data.policy?.rollout_kl);
  card.say(
    [
      `entropy ${significant(last(pooled.entropy))} nats a token`,
      gap === null ? "" : `engine and trainer differ by ${significant(gap)} nats`,
      `response ${significant(last(pooled.response_length))} tokens`,
    ]
      .filter(Boolean)
      .join(" · "),
  );
  const most = Math.max(0.02, ...kept.flatMap(([name]) => pooled[name].map((value) => value ?? 0)));
  return card.draw(
    traces,
    () => ({
      yaxis: { tickformat: most < 0.08 ? ".1%" : ".0%", range: [0, Math.min(1, most * 1.1)], title: "of rollouts" },
      xaxis: { title: "step", tickformat: ",d" },
    }),
    {
      select: (point) =>
        go("rollouts", {
          ...behind(data, point.pointIndex, ""),
          ...(point.data.name === "format errors"
            ? { status: "format_error" }
            : point.data.name === "no score"
              ? { status: "abstained" }
              : {}),
        }),
      table: () => ({
        head: ["step", ...kept.map(([, title]) => title)],
        rows: data.step
          .map((step, index) => [
            el("a", { href: href("rollouts", behind(data, index, "")) }, String(step)),
            ...kept.map(([name]) => percent(pooled[name][index], 1)),
          ])
          .reverse(),
      }),
    },
  );
}

// The guard's looks: an audit that falls while the reward holds is a verifier being gamed.
export function drawGuard(card, guard, domain) {
  const looks = guard.domains[domain];
  const lines = [
    ["audit", "audit (right by the trusted verifier)"],
    ["reward", "reward (as training pays)"],
    ["passed_wrongly", "passed wrongly"],
  ];
  const quarantined = looks.quarantined?.some(Boolean);
  card.say(
    `${quarantined ? "Quarantined. " : ""}Audit ${percent(last(looks.audit), 1)}, reward ${fixed(last(looks.reward))}, passed wrongly ${percent(last(looks.passed_wrongly), 1)}.`,
  );
  const steps = guard.updates.map((updates) => updates - 1);
  const traces = () =>
    lines.map(([name, title], place) => {
      const { color, dash, symbol } = mark(place);
      return {
        name: title,
        x: steps,
        y: looks[name],
        mode: "lines+markers",
        line: { color, dash, width: 1.8 },
        marker: { color, symbol, size: 6 },
        hovertemplate: `step %{x}: %{y:.3f} ${title}<extra></extra>`,
      };
    });
  return card.draw(traces, () => ({ yaxis: { range: [0, 1] }, xaxis: { title: "step", tickformat: ",d" } }), {
    select: (point) => go("rollouts", { domain, step_from: Math.max(0, point.x), step_to: Math.max(0, point.x) }),
    table: () => ({
      head: ["step", ...lines.map(([, title]) => title)],
      rows: steps.map((step, at) => [String(step), ...lines.map(([name]) => fixed(looks[name][at], 3))]).reverse(),
    }),
  });
}
