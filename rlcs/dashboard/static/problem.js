// One problem: what was asked, what is believed of it, what came of every time it was drawn.

import { band, chartCard, mark } from "./charts.js";
import { get, runPath } from "./data.js";
import { el, replace, table } from "./dom.js";
import { fixed, MISSING, percent, plural, points, whole } from "./format.js";
import { mediaRow } from "./media.js";
import { go, href } from "./place.js";

export function json(value) {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value);
  return line.length <= 160 ? line : JSON.stringify(value, null, 1);
}

// A pair of a description list; nothing where there is nothing to say.
export const told = (name, value) =>
  value === null || value === undefined || value === "" ? null : [el("dt", {}, name), el("dd", {}, value)];

export function verifierWords(verifier) {
  if (!verifier) return null;
  const changed = Object.entries(verifier.changed ?? {});
  const options = changed.map(([name, value]) => `${name}: ${json(value)}`).join(", ");
  return `${verifier.name}${verifier.default ? " (the domain's default)" : ""}${options ? ` with ${options}` : ""}`;
}

function drawHistory(card, problem, index) {
  const { history, observed } = problem;
  const traces = () => {
    const [belief, came] = [mark(0), mark(1)];
    return [
      ...band("belief", history.step, history.low, history.high, belief.color),
      {
        name: "posterior mean, 95% interval",
        x: history.step,
        y: history.mean,
        mode: "lines+markers",
        line: { color: belief.color, width: 2 },
        marker: { size: 5 },
        text: history.step.map(
          (_, at) =>
            `${percent(history.low[at])} to ${percent(history.high[at])}, ${history.class?.[at] ?? history.state?.[at] ?? ""}`,
        ),
        hovertemplate: "step %{x}: %{y:.1%} (%{text})<extra></extra>",
      },
      {
        name: "its groups",
        x: observed.map((one) => one.step),
        y: observed.map((one) => (one.known ? one.right / one.known : null)),
        mode: "markers",
        marker: { color: came.color, symbol: came.symbol, size: 9, line: { width: 1, color: "#fff" } },
        text: observed.map((one) => `${one.right} of ${one.known} right, ${one.fate ?? ""}`),
        hovertemplate: "step %{x}: %{text}<extra></extra>",
      },
    ];
  };
  return card.draw(
    traces,
    () => ({ yaxis: { range: [-0.04, 1.04], tickformat: ".0%" }, xaxis: { title: "step", tickformat: ",d" } }),
    {
      select: (point) => point.data.name === "its groups" && go("rollouts", { index, step_from: point.x, step_to: point.x }),
      table: () => ({
        head: ["step", "mean", "interval", "P(mixed)", "state"],
        rows: history.step
          .map((step, at) => [
            String(step),
            percent(history.mean[at], 1),
            `${percent(history.low[at])} to ${percent(history.high[at])}`,
            fixed(history.mixed_probability?.[at], 2),
            history.class?.[at] ?? MISSING,
          ])
          .reverse(),
      }),
    },
  );
}

// What a verdict is said in: a word and a sign, not a colour alone.
export function verdictBadge(rollout) {
  if (rollout.correct === null) return el("span", { class: "state" }, `? ${rollout.status}`);
  return el("span", { class: `state ${rollout.correct ? "good" : "bad"}` }, rollout.correct ? "✓ right" : "✕ wrong");
}

function rolloutTable(problem) {
  const head = ["step", "sample", "reward", "verdict", "reason", "fate", "tokens"];
  const row = (one) => [
    el("a", { href: href("rollouts", { index: problem.problem.index }, [one.step, one.row]) }, `step ${one.step}`),
    whole(one.sample),
    fixed(one.reward),
    verdictBadge(one),
    one.reason ?? "",
    one.fate,
    whole(one.tokens),
  ];
  return table(head, problem.rollouts.slice(0, 400).map(row));
}

function messageTexts(problem) {
  if (!problem.messages) return el("p", { class: "text" }, problem.question ?? "");
  return problem.messages.map((message) =>
    el(
      "div",
      {},
      el("h3", {}, message.role),
      message.parts.filter((part) => part.type === "text").map((part) => el("p", { class: "text" }, part.text)),
    ),
  );
}

export async function showProblem({ body, run, index, signal, back }) {
  const head = el("div", { class: "filters" });
  const belief = chartCard("Pass rate: believed and seen", { tall: true });
  const asked = el("section", { class: "card" });
  const facts = el("section", { class: "card" });
  const rollouts = el("section", { class: "card" });
  replace(body, head, el("div", { class: "columns" }, el("div", {}, belief.node, asked), el("div", {}, facts, rollouts)));
  async function refresh() {
    const found = await get(runPath(run.name, `problems/${index}`), {}, signal);
    const { problem } = found;
    replace(
      head,
      el("a", { href: back }, "← all problems"),
      el("h1", {}, problem.id),
      el("span", { class: "note" }, `${problem.domain}${problem.tier ? `, ${problem.tier}` : ""}`),
      el(
        "span",
        { class: "push" },
        el(
          "a",
          { href: href("rollouts", { index }) },
          `its ${plural(found.rollouts_total ?? found.rollouts.length, "rollout")}`,
        ),
      ),
    );
    replace(
      facts,
      el("header", {}, el("h2", {}, "Now")),
      el(
        "dl",
        { class: "explain" },
        told("believed", `${percent(problem.mean, 1)} (${percent(problem.low)} to ${percent(problem.high)})`),
        told("evidence", problem.alpha === null ? null : `Beta(${fixed(problem.alpha, 2)}, ${fixed(problem.beta, 2)})`),
        told("P(mixed group)", fixed(problem.mixed_probability, 2)),
        told("state", problem.state ?? problem.class),
        told("first believed", percent(problem.first_mean, 1)),
        told("change", `${points(problem.change)} points`),
        told(
          "graded offline",
          found.offline
            ? `${percent(found.offline.pass_rate, 1)}${found.offline.grade ? ` ${json(found.offline.grade)}` : ""}`
            : null,
        ),
        told("seen", problem.seen_at === null || problem.seen_at < 0 ? "never" : `last at step ${problem.seen_at}`),
        told("right", problem.rollouts ? `${whole(problem.correct)} of ${whole(problem.rollouts)}` : null),
        told(
          "mode",
          problem.thinking === null || problem.thinking === undefined ? null : problem.thinking ? "thinking" : "non-thinking",
        ),
        told("source", found.source),
      ),
    );
    replace(
      asked,
      el("header", {}, el("h2", {}, "Question")),
      messageTexts(found),
      mediaRow(run.name, index, found.media),
      el("dl", { class: "explain" }, told("reference", json(found.answer)), told("verifier", verifierWords(found.verifier))),
      found.note ? el("p", { class: "remark" }, found.note) : null,
    );
    replace(
      rollouts,
      el("header", {}, el("h2", {}, "Rollouts")),
      found.rollouts.length
        ? el("div", { class: "scroll chart-table" }, rolloutTable(found))
        : el("p", { class: "remark" }, "Never drawn so far."),
    );
    await drawHistory(belief, found, index);
  }
  await refresh();
  return { refresh };
}
