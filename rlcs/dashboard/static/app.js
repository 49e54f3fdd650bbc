// The page's frame: which run, which page, what the keys do, and news of what the run has written.

import { redrawAll } from "./charts.js";
import { showCompare } from "./compare.js";
import { exported, follow, get } from "./data.js";
import { showDifficulty } from "./difficulty.js";
import { el, replace } from "./dom.js";
import { ago, plural } from "./format.js";
import { bindKeys } from "./keys.js";
import { showOverview } from "./overview.js";
import { paced } from "./pace.js";
import { go, href, PAGES, place } from "./place.js";
import { showProblems } from "./problems.js";
import { showRollouts } from "./rollouts.js";

const SHOW = {
  overview: showOverview,
  difficulty: showDifficulty,
  problems: showProblems,
  rollouts: showRollouts,
  compare: showCompare,
};
const main = document.getElementById("main");
const chooser = document.getElementById("run");
let runs = [];
let connected = false;
let shown = { key: null, page: null, leave: new AbortController() };

export function runNow() {
  return runs.find((run) => run.name === place().query.run) ?? runs[0];
}

function sayTrouble(error) {
  if (error.name === "AbortError") return;
  let box = main.querySelector(":scope > .error");
  if (!box) {
    box = el("p", { class: "error", role: "alert" });
    main.prepend(box);
  }
  replace(box, error.message);
}

// Whether the run's directory is away, which is said at the page's head as long as it is.
function sayGone() {
  const run = runNow();
  if (run?.status !== "gone") return false;
  sayTrouble(new Error(`The server finds no run at ${run.path} any more; what is shown here was read before.`));
  return true;
}

// Runs what a page asks for; what went wrong is said at the page's head and taken away by the next success.
async function attempt(work) {
  try {
    await work();
    if (!sayGone()) main.querySelector(":scope > .error")?.remove();
  } catch (error) {
    sayTrouble(error);
    if (!(error.message ?? "").startsWith("The server") && error.name !== "AbortError") console.warn(error);
  }
}

function sayState() {
  const run = runNow();
  const live = document.getElementById("live");
  if (!run) return;
  const step = run.step === null ? "no step yet" : `step ${run.step + 1}${run.steps ? ` of ${run.steps}` : ""}`;
  live.className = `live ${exported ? "" : connected ? (run.status === "running" ? "on" : "") : "lost"}`;
  const when = exported
    ? `exported ${exported.made ?? ""}`
    : connected
      ? `${run.status}, written ${ago(run.updated)}`
      : "server lost";
  replace(live, `${step} · ${when}`);
  live.title = run.path ?? "";
}

function sayPlace() {
  const { page } = place();
  const run = runNow();
  const links = PAGES.map((name) =>
    el(
      "a",
      { href: href(name, { run: run?.name }), "aria-current": name === page ? "page" : null },
      name[0].toUpperCase() + name.slice(1),
    ),
  );
  replace(document.getElementById("pages"), links);
  replace(
    chooser,
    runs.map((one) => el("option", { value: one.name, selected: one.name === run?.name }, one.name)),
  );
  chooser.parentElement.hidden = runs.length < 2;
  document.title = `${run ? `${run.name} · ` : ""}${page} · rlcs`;
}

async function show() {
  const { page, parts, query } = place();
  const run = runNow();
  delete document.documentElement.dataset.drawn;
  sayPlace();
  sayState();
  if (!run) return replace(main, el("p", { class: "note" }, "No run is served."));
  const key = `${page}|${run.name}|${run.generation}`;
  if (shown.key === key && shown.page?.update) return attempt(() => shown.page.update(query, parts));
  shown.leave.abort();
  const leave = new AbortController();
  shown = { key, page: null, leave };
  const body = el("div", { class: `page ${page}` });
  replace(main, el("h1", { class: "unseen" }, `${page} of ${run.name}`), body);
  await attempt(async () => {
    const opened = await SHOW[page]({ body, run, runs, query, parts, signal: leave.signal, attempt });
    if (shown.leave === leave) shown.page = opened;
    if (shown.leave === leave && JSON.stringify(place()) !== JSON.stringify({ page, parts, query })) await show();
  });
}

const redraw = paced(async () => {
  if (!shown.page) return show();
  if (!shown.page.refresh || document.hidden) return;
  await attempt(() => shown.page?.refresh(runNow(), runs));
});

function hear(news) {
  const before = runNow();
  runs = news;
  const run = runNow();
  sayState();
  if (!run || !before) return show();
  if (sayGone()) return;
  if (run.generation !== before.generation || run.name !== before.name) return show();
  redraw();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const sign = { light: "☀ light", dark: "☾ dark" }[theme] ?? "◐ auto";
  replace(document.getElementById("theme"), sign);
  redrawAll();
}

function theme() {
  return localStorage.getItem("rlcs-theme");
}

async function start() {
  setTheme(theme());
  document.getElementById("theme").addEventListener("click", () => {
    const next = { light: "dark", dark: null }[theme()] ?? (theme() === null ? "light" : null);
    if (next) localStorage.setItem("rlcs-theme", next);
    else localStorage.removeItem("rlcs-theme");
    setTheme(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  chooser.addEventListener("change", () => go(place().page, { run: chooser.value }));
  bindKeys({
    current: () => shown.page,
    pages: PAGES.map((page) => () => go(page, { run: runNow()?.name })),
  });
  window.addEventListener("hashchange", show);
  document.addEventListener(
    "visibilitychange",
    () => !document.hidden && shown.page?.refresh && attempt(() => shown.page.refresh(runNow(), runs)),
  );
  await attempt(async () => {
    runs = (await get("/api/runs")).runs;
    await show();
  });
  follow(hear, (on) => {
    connected = on;
    sayState();
  });
  setInterval(sayState, 5000);
  document.documentElement.dataset.ready = plural(runs.length, "run");
}

start();
