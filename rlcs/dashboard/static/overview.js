// Is it learning, in which domain, and what is wasted?

import { chartCard } from "./charts.js";
import { get, runPath } from "./data.js";
import { el, replace } from "./dom.js";
import { compact, duration, percent, whole } from "./format.js";
import { drawDomain, drawGuard, drawHealth, drawShares, drawSpeed, drawSpend, last } from "./overview_charts.js";
import { href } from "./place.js";

const KIND_NAMES = { error: "critical", warning: "warning", info: "info" };

function facts(data) {
  const { totals, run } = data;
  const share = (part, all) => (all ? percent(part / all) : "–");
  const speed = data.speed ?? {};
  const pairs = [
    ["steps", `${whole(totals.steps)}`, run.steps ? ` of ${whole(run.steps)}` : ""],
    ["rollouts", compact(totals.rollouts), ` ${share(totals.rollouts_wasted, totals.rollouts)} wasted`],
    ["tokens", compact(totals.tokens), ` ${share(totals.tokens_wasted, totals.tokens)} wasted`],
    ["groups", compact(totals.groups), ` ${share(totals.groups_trained, totals.groups)} trained on`],
    ["time in steps", duration(totals.seconds), totals.eta_s ? `, ${duration(totals.eta_s)} to go` : ""],
    ["a step", duration(last(speed.seconds?.step)), ""],
    ["generation", compact(Math.round(last(speed.tokens_per_s?.generate) ?? NaN)), " tokens/s"],
    ["memory", last(speed.memory_mb) === null ? "–" : `${compact(Math.round(last(speed.memory_mb)))}`, " MB at peak"],
  ];
  return pairs.map(([name, value, more]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, more))));
}

function alertItem(alert) {
  const span = alert.step_from < alert.step ? `steps ${alert.step_from}–${alert.step}` : `step ${alert.step}`;
  const link = href("rollouts", { step_from: alert.step_from, step_to: alert.step, domain: alert.domain });
  return el(
    "li",
    { class: KIND_NAMES[alert.severity] ?? "info" },
    el("a", { href: link }, span),
    el(
      "p",
      {},
      el("span", { class: "kind" }, `${alert.kind}${alert.domain ? ` in ${alert.domain}` : ""} (${alert.severity}): `),
      alert.sentence,
    ),
  );
}

export async function showOverview({ body, run, signal }) {
  const verdict = el("section", { class: "card verdict wide", "aria-label": "Verdict" });
  const numbers = el("dl", { class: "facts" });
  const alerts = el("ul", { class: "alerts" });
  const alertCard = el("section", { class: "card" }, el("header", {}, el("h2", {}, "Alerts")), alerts);
  const domains = new Map();
  const curves = el("div", { class: "auto wide" });
  const guards = new Map();
  const shares = chartCard("Which groups carry signal");
  const spend = chartCard("Spent and wasted", { note: "Wasted: generated for groups that were not trained on." });
  const speed = chartCard("Where the time goes");
  const health = chartCard("Responses that are no answers");
  const intervals = el("p", { class: "remark wide" });
  speed.node.classList.add("half");
  health.node.classList.add("half");
  replace(
    body,
    el(
      "div",
      { class: "grid" },
      verdict,
      el("section", { class: "card wide" }, numbers),
      curves,
      shares.node,
      spend.node,
      alertCard,
      speed.node,
      health.node,
      intervals,
    ),
  );

  async function refresh() {
    const data = await get(runPath(run.name, "overview"), {}, signal);
    const { sentence, waste } = data.verdict;
    replace(
      verdict,
      el("p", {}, sentence),
      waste ? el("p", {}, waste) : null,
      data.run.note ? el("p", {}, data.run.note) : null,
    );
    replace(numbers, facts(data));
    replace(
      alerts,
      data.alerts.length
        ? data.alerts.map(alertItem)
        : el("li", {}, el("span", {}, "none"), el("p", {}, "Nothing to be alarmed about.")),
    );
    replace(intervals, data.intervals, data.thinned > 1 ? ` One point stands for ${data.thinned} steps.` : "");
    data.domains.forEach((domain) => {
      if (!domains.has(domain)) domains.set(domain, chartCard(domain));
      if (!domains.get(domain).node.isConnected) curves.append(domains.get(domain).node);
    });
    const watched = Object.keys(data.guard?.domains ?? {}).sort();
    for (const domain of watched) {
      if (!guards.has(domain)) guards.set(domain, chartCard(`Is the verifier of ${domain} being gamed?`));
      if (!guards.get(domain).node.isConnected) curves.append(guards.get(domain).node);
    }
    const drawings = data.domains.map((domain, place) => drawDomain(domains.get(domain), data, domain, place));
    await Promise.all([
      ...drawings,
      ...watched.map((domain) => drawGuard(guards.get(domain), data.guard, domain)),
      drawShares(shares, data, ""),
      drawSpend(spend, data),
      drawSpeed(speed, data),
      drawHealth(health, data),
    ]);
    if (!signal.aborted) document.documentElement.dataset.drawn = "overview";
  }
  await refresh();
  return { refresh };
}
