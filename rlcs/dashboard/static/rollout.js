// One rollout: what was said, how likely each token was, what the verifier made of it, and the rest of its group.

import { get, runPath } from "./data.js";
import { el, replace } from "./dom.js";
import { fixed, percent, significant, whole } from "./format.js";
import { mediaRow } from "./media.js";
import { href } from "./place.js";
import { json, told, verdictBadge, verifierWords } from "./problem.js";

// The opacity of a token's shade: none where it was certain, full from a probability of 1% down.
const shade = (logprob) => Math.min(1, Math.max(0, -logprob / Math.log(100)));

function spanNodes(spans) {
  return spans.map(({ kind, text }) => el("span", { class: kind }, text));
}

function tokenNodes(tokens) {
  return tokens.map(({ text, logprob, forced, kind }) => {
    const words = forced
      ? "forced by the thinking budget"
      : logprob === null
        ? ""
        : `log-probability ${fixed(logprob, 3)}, probability ${percent(Math.exp(logprob), 1)}`;
    const colour = forced || logprob === null ? "" : `rgb(230 120 0 / ${(0.6 * shade(logprob)).toFixed(3)})`;
    return el(
      "span",
      {
        class: `token ${forced ? "forced" : ""} ${kind === "mark" ? "mark" : ""}`,
        title: `${JSON.stringify(text)} ${words}`,
        style: { backgroundColor: colour },
      },
      text,
    );
  });
}

function explained(found) {
  const { verdict, format, rollout } = found;
  return el(
    "section",
    {},
    el("h2", { class: "part" }, "The verdict"),
    el(
      "dl",
      { class: "explain" },
      told("verdict", el("span", {}, verdictBadge(rollout), ` reward ${fixed(rollout.reward)}, status ${rollout.status}`)),
      told("reason", verdict.reason ? `${verdict.reason}${verdict.reason_text ? `: ${verdict.reason_text}` : ""}` : null),
      told("format", format?.reason),
      told("extracted", rollout.extracted),
      told("reference", json(rollout.answer)),
      told("verifier", verifierWords(verdict.verifier)),
      (verdict.steps ?? []).map((step) => told(step.name, step.text)),
      told("fate", `${rollout.fate}${rollout.advantage === null ? "" : `, advantage ${fixed(rollout.advantage)}`}`),
      told(
        "length",
        `${whole(rollout.tokens)} tokens${rollout.forced_tokens ? `, ${rollout.forced_tokens} of them forced` : ""}; ended by ${rollout.finish_reason}`,
      ),
      told("likelihood", rollout.mean_logprob === null ? null : `${significant(rollout.mean_logprob)} nats a token on average`),
    ),
  );
}

function groupSection(found, query, toggle) {
  const here = found.rollout;
  const right = found.group.filter((one) => one.correct).length;
  const known = found.group.filter((one) => one.correct !== null).length;
  return el(
    "section",
    {},
    el(
      "h2",
      { class: "part" },
      `Its group: ${right} of ${known} right `,
      el(
        "button",
        { type: "button", class: "small", id: "side-by-side", "aria-pressed": String(query.group === "1"), onclick: toggle },
        "side by side (g)",
      ),
    ),
    query.group === "1"
      ? el(
          "div",
          { class: "side" },
          found.group.map((one) =>
            el(
              "article",
              { class: "card" },
              el(
                "header",
                {},
                el(
                  "a",
                  { href: href("rollouts", query, [one.step, one.row]), "aria-current": one.row === here.row ? "true" : null },
                  `sample ${one.sample}${one.row === here.row ? " (this)" : ""}`,
                ),
                verdictBadge(one),
              ),
              el(
                "p",
                { class: "remark" },
                `reward ${fixed(one.reward)}${one.advantage === null ? "" : `, advantage ${fixed(one.advantage)}`}, ${whole(one.tokens)} tokens${one.reason ? `, ${one.reason}` : ""}`,
              ),
              el("p", { class: "text" }, one.response),
            ),
          ),
        )
      : el(
          "p",
          {},
          found.group.map((one) => [
            el(
              "a",
              {
                href: href("rollouts", query, [one.step, one.row]),
                "aria-current": one.row === here.row ? "true" : null,
                class: "state",
                title: one.reason ?? "",
              },
              `${one.sample}: ${one.correct === null ? "?" : one.correct ? "✓" : "✕"} ${fixed(one.reward)}`,
            ),
            " ",
          ]),
        ),
  );
}

// `wanted()` tells, once the answer is there, whether the reader still waits for it.
export async function showRollout({ body, run, at, query, signal, toggleGroup, toggleColour, back, step, wanted }) {
  const found = await get(runPath(run.name, `rollouts/${at.step}/${at.row}`), {}, signal);
  if (!wanted()) return;
  const { rollout } = found;
  const coloured = query.colour === "tokens" && found.tokens;
  const response = el("p", { class: "text response" }, coloured ? tokenNodes(found.tokens) : spanNodes(found.spans));
  const legend = coloured
    ? el(
        "p",
        { class: "legend" },
        "probability of the token: ",
        [1, 0.5, 0.1, 0.01].map((p) =>
          el("i", { style: { backgroundColor: `rgb(230 120 0 / ${(0.6 * shade(Math.log(p))).toFixed(3)})` } }, percent(p)),
        ),
        el("span", { class: "text" }, el("span", { class: "forced" }, "forced")),
      )
    : el(
        "p",
        { class: "legend text" },
        el("span", { class: "think" }, "thought"),
        el("span", {}, "answer"),
        el("span", { class: "box" }, "box"),
      );
  const turn = (by, sign, words) =>
    el("button", { type: "button", class: "small", title: words, "aria-label": words, onclick: () => step(by) }, sign);
  replace(
    body,
    el(
      "p",
      { class: "turns" },
      el("a", { href: back, class: "to-list" }, "← list"),
      turn(-1, "‹", "previous (k)"),
      turn(1, "›", "next (j)"),
    ),
    el(
      "header",
      {},
      el("h1", {}, `Step ${rollout.step}, `, el("a", { href: href("problems", {}, [rollout.index]) }, rollout.id)),
      el(
        "span",
        { class: "note" },
        `${rollout.domain}${rollout.tier ? `, ${rollout.tier}` : ""}, sample ${rollout.sample}, ${rollout.thinking ? "thinking" : "non-thinking"}`,
      ),
    ),
    el(
      "section",
      {},
      el("h2", { class: "part" }, "Question"),
      el("p", { class: "text" }, rollout.question),
      mediaRow(run.name, rollout.index, found.media, found.geometry),
    ),
    el(
      "section",
      {},
      el(
        "h2",
        { class: "part" },
        "Response ",
        el(
          "button",
          {
            type: "button",
            class: "small",
            "aria-pressed": String(Boolean(coloured)),
            disabled: !found.tokens,
            title: found.tokens_note ?? "colour by log-probability",
            onclick: toggleColour,
          },
          "token probabilities",
        ),
      ),
      legend,
      response,
      found.tokens ? null : el("p", { class: "remark" }, found.tokens_note ?? ""),
    ),
    explained(found),
    groupSection(found, query, toggleGroup),
  );
}
