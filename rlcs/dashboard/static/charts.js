// Plotly charts in the page's colours. Okabe and Ito's palette; every series has a dash or a marker of its own as well.

import { el, replace, table } from "./dom.js";

const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333"];
const DARK = ["#56B4E9", "#E69F00", "#2FBF93", "#CC79A7", "#F0E442", "#D55E00", "#CCCCCC"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star"];
const MARGIN = 200;
const drawn = new Map();

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Colour, dash and marker of the series at `place` in its legend.
export function mark(place) {
  const palette = isDark() ? DARK : LIGHT;
  return {
    color: palette[place % palette.length],
    dash: DASHES[place % DASHES.length],
    symbol: MARKERS[place % MARKERS.length],
  };
}

export function translucent(colour, opacity) {
  const value = Number.parseInt(colour.slice(1), 16);
  return `rgba(${value >> 16},${(value >> 8) & 255},${value & 255},${opacity})`;
}

// Plotly reads markup in its labels; names from files must not be any.
export function label(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const ink = () => ({
  text: colourOf("--text"),
  muted: colourOf("--muted"),
  line: colourOf("--line"),
  card: colourOf("--card"),
});

function merged(base, more) {
  const out = { ...base };
  for (const [name, value] of Object.entries(more)) {
    const both = value && base[name] && typeof value === "object" && typeof base[name] === "object" && !Array.isArray(value);
    out[name] = both ? merged(base[name], value) : value;
  }
  return out;
}

function layoutOf(layout) {
  const { text, muted, line, card } = ink();
  const axis = {
    gridcolor: line,
    linecolor: line,
    zeroline: false,
    tickcolor: line,
    automargin: true,
    fixedrange: matchMedia("(pointer: coarse)").matches,
    tickfont: { color: muted },
    title: { font: { color: muted, size: 11 }, standoff: 6 },
  };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    autosize: true,
    margin: { l: 40, r: 10, t: 6, b: 30 },
    font: { family: "system-ui, sans-serif", size: 11, color: text },
    hoverlabel: { bgcolor: card, bordercolor: line, font: { color: text } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    uirevision: "keep",
  };
  const out = merged(base, layout);
  for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))])) {
    const given = layout[name] ?? {};
    out[name] = merged(axis, typeof given.title === "string" ? { ...given, title: { text: given.title } } : given);
  }
  return out;
}

let library = null;
let lastTurn = Promise.resolve();

// Plotly's script holds the page for a second when it starts, so it comes after the words: only once they have been painted.
function plotly() {
  library ??= window.Plotly ? Promise.resolve(window.Plotly) : painted().then(load);
  return library;
}

// In a tab that is hidden there are no frames to wait for.
const painted = () =>
  new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, 300);
  });

const load = () =>
  new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/plotly.min.js";
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      library = null;
      script.remove();
      reject(new Error("Plotly's script did not load"));
    });
    document.head.append(script);
  });

// One chart after the other, so that keys and clicks are heard between them.
function inTurn(work) {
  const done = lastTurn.then(() => new Promise((resolve) => setTimeout(resolve))).then(work);
  lastTurn = done.catch(() => {});
  return done;
}

async function paint(node) {
  const { traces, layout, select } = drawn.get(node);
  const started = await plotly();
  await inTurn(() => react(started, node, traces, layout, select));
}

// A chart that is out of sight is brought up to date when it is scrolled to.
const stale = new Set();
const sight = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) if (entry.isIntersecting && stale.delete(entry.target)) paint(entry.target);
  },
  { rootMargin: `${MARGIN}px` },
);

function inSight(node) {
  const box = node.getBoundingClientRect();
  return box.bottom > -MARGIN && box.top < window.innerHeight + MARGIN;
}

async function react(started, node, traces, layout, select) {
  if (!node.isConnected || drawn.get(node)?.traces !== traces) return;
  const first = !node.dataset.drawn;
  if (!first && !inSight(node)) {
    stale.add(node);
    sight.observe(node);
    return;
  }
  stale.delete(node);
  await started.react(node, traces(), layoutOf(layout()), { displayModeBar: false, responsive: true, doubleClick: "reset" });
  node.dataset.drawn = "yes";
  if (first) node.on("plotly_click", (event) => drawn.get(node)?.select?.(event.points[0], event.points));
  node.classList.toggle("clickable", Boolean(select));
}

// `traces` and `layout` are functions, called again when the colours change. `select(point)` hears of a click.
export function draw(node, traces, layout = () => ({}), select = null) {
  drawn.set(node, { traces, layout, select });
  return paint(node);
}

export function redrawAll() {
  for (const node of drawn.keys()) {
    if (node.isConnected) paint(node);
    else drawn.delete(node);
  }
}

// A line with its interval as a band behind it.
export function band(name, x, low, high, colour, more = {}) {
  const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: name, ...more };
  return [
    { ...edge, y: low },
    { ...edge, y: high, fill: "tonexty", fillcolor: translucent(colour, 0.16) },
  ];
}

// A titled chart that can be read as a table as well: {node, plot, say, draw}. `table()` -> {head: [...], rows: [[cell]]}.
export function chartCard(title, { note = "", tall = false, wide = false } = {}) {
  const plot = el("div", { class: tall ? "plot tall" : "plot", role: "img", "aria-label": title });
  const sheet = el("div", { class: "chart-table", hidden: true, tabindex: "0" });
  const remark = el("p", { class: "remark" }, note);
  const toggle = el("button", { type: "button", class: "quiet small", "aria-pressed": "false" }, "table");
  let rowsOf = null;
  const showTable = () => {
    const { head, rows } = rowsOf();
    replace(sheet, table(head, rows));
  };
  toggle.addEventListener("click", () => {
    const on = sheet.hidden;
    sheet.hidden = !on;
    plot.hidden = on;
    toggle.setAttribute("aria-pressed", String(on));
    if (on) showTable();
    else redrawAll();
  });
  const node = el(
    "section",
    { class: wide ? "card wide" : "card" },
    el("header", {}, el("h2", {}, title), toggle),
    remark,
    plot,
    sheet,
  );
  return {
    node,
    plot,
    say: (text) => replace(remark, text),
    draw(traces, layout, { select = null, table: rows = null } = {}) {
      rowsOf = rows;
      toggle.hidden = rows === null;
      if (!sheet.hidden && rows) showTable();
      return draw(plot, traces, layout, select);
    },
  };
}
