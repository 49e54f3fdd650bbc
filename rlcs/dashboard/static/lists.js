// Pages of problems and rollouts: from the server, or, in an exported file, from the sample that it holds.

import { exported, get, runPath } from "./data.js";
import { NONE } from "./filters.js";

const text = (value) => (value === null || value === undefined ? "" : String(value));
const within = (value, low, high) => (!low || value >= Number(low)) && (!high || value <= Number(high));
const same = (column) => (row, wanted) => text(row[column]) === (wanted === NONE ? "" : wanted);
const holds =
  (...columns) =>
  (row, wanted) =>
    columns.some((column) => text(row[column]).toLowerCase().includes(wanted.toLowerCase()));

const PROBLEM_TESTS = {
  search: holds("id"),
  domain: same("domain"),
  tier: same("tier"),
  state: same("state"),
  class: same("class"),
  seen: (row, wanted) => row.seen_at >= 0 === (wanted === "1"),
  mean_min: (row, wanted) => within(row.mean, wanted, ""),
  mean_max: (row, wanted) => within(row.mean, "", wanted),
};
const NULLABLE = (column) => (row, wanted) => (row[column] === null ? "null" : String(row[column])) === wanted;
const ROLLOUT_TESTS = {
  search: holds("id", "question", "response"),
  domain: same("domain"),
  tier: same("tier"),
  status: same("status"),
  reason: same("reason"),
  fate: same("fate"),
  finish: same("finish"),
  index: same("index"),
  correct: NULLABLE("correct"),
  thinking: NULLABLE("thinking"),
  step_from: (row, wanted) => row.step >= Number(wanted),
  step_to: (row, wanted) => row.step <= Number(wanted),
  reward_min: (row, wanted) => row.reward !== null && row.reward >= Number(wanted),
  reward_max: (row, wanted) => row.reward !== null && row.reward <= Number(wanted),
};
const ORDERS = {
  newest: ["step", true],
  oldest: ["step", false],
  reward: ["reward", false],
  "-reward": ["reward", true],
  tokens: ["tokens", false],
  "-tokens": ["tokens", true],
};

const passes = (row, tests, query, but) =>
  Object.entries(tests).every(
    ([name, test]) => name === but || query[name] === undefined || query[name] === "" || test(row, query[name]),
  );

function counted(rows, tests, query, name, value) {
  const counts = {};
  for (const row of rows) if (passes(row, tests, query, name)) counts[value(row)] = (counts[value(row)] ?? 0) + 1;
  return counts;
}

function page(rows, column, descending, { offset = 0, limit = 50 }) {
  const sign = descending ? -1 : 1;
  const rank = (a, b) =>
    a[column] === b[column] ? 0 : a[column] === null ? 1 : b[column] === null ? -1 : a[column] < b[column] ? -sign : sign;
  return [...rows].sort(rank).slice(Number(offset), Number(offset) + Number(limit));
}

// As /api/runs/{run}/problems; `sample` is {held, total} in an exported file and null otherwise.
export async function problemPage(run, query, signal) {
  if (!exported) return { ...(await get(runPath(run, "problems"), query, signal)), sample: null };
  const { rows, total } = exported.samples[run].problems;
  const kept = rows.filter((row) => passes(row, PROBLEM_TESTS, query));
  const facets = Object.fromEntries(
    ["domain", "tier", "state", "class"].map((name) => [
      name,
      counted(rows, PROBLEM_TESTS, query, name, (row) => text(row[name])),
    ]),
  );
  return {
    total,
    matching: kept.length,
    rows: page(kept, query.sort ?? "index", query.descending === "1", query),
    facets,
    sample: { held: rows.length, total },
    indexed: { files: 1, total: 1 },
    note: null,
  };
}

// As /api/runs/{run}/rollouts.
export async function rolloutPage(run, query, signal) {
  if (!exported) return { ...(await get(runPath(run, "rollouts"), query, signal)), sample: null };
  const { rows, total } = exported.samples[run].rollouts;
  const kept = rows.filter((row) => passes(row, ROLLOUT_TESTS, query));
  const named = (name) => (row) =>
    row[name] === null ? (name === "correct" || name === "thinking" ? "null" : "") : String(row[name]);
  const facets = Object.fromEntries(
    ["domain", "tier", "status", "reason", "fate", "finish", "correct", "thinking"].map((name) => [
      name,
      counted(rows, ROLLOUT_TESTS, query, name, named(name)),
    ]),
  );
  const steps = rows.map((row) => row.step);
  const [column, descending] = ORDERS[query.order ?? "newest"];
  return {
    total,
    matching: kept.length,
    rows: page(kept, column, descending, query),
    facets,
    reward_histogram: null,
    steps: { first: Math.min(...steps), last: Math.max(...steps) },
    indexed: { files: 1, total: 1 },
    search: null,
    sample: { held: rows.length, total },
  };
}
