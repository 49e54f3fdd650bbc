// Where the numbers come from: the server's JSON, or what `rlcs dashboard --export` put into this file.

import { NONE } from "./filters.js";

const inline = document.getElementById("rlcs-export");
export const exported = inline ? JSON.parse(inline.textContent) : null;

// "/api/x?b=1&a=2" with the keys in order; empty values are left out.
export function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const pairs = kept
    .map(([name, value]) => [name, value === NONE ? "" : String(value)])
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const search = new URLSearchParams(pairs).toString();
  return search ? `${path}?${search}` : path;
}

// The JSON at an address. Errors carry the server's own words.
export async function get(path, query = {}, signal = undefined) {
  const at = address(path, query);
  if (exported) {
    const found = exported.responses[at];
    if (found === undefined)
      throw new Error("This file holds no such view: it is an export. Serve the run with `rlcs dashboard` to see it.");
    return found;
  }
  let response;
  try {
    response = await fetch(at, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is `rlcs dashboard` still running?");
  }
  const found = await response.json();
  if (!response.ok) throw new Error(found.error ?? `The server answered ${response.status}`);
  return found;
}

export const runPath = (run, rest) => `/api/runs/${encodeURIComponent(run)}/${rest}`;

// Calls `changed(runs)` with the state of every run when one has been written to, and `connected(bool)` as the stream comes and goes.
export function follow(changed, connected) {
  if (exported) return;
  const stream = new EventSource("/api/events");
  stream.addEventListener("runs", (event) => changed(JSON.parse(event.data).runs));
  stream.onopen = () => connected(true);
  stream.onerror = () => connected(false);
}
