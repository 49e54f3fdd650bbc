// Where the reader is: page, run and filters, all in the address after "#", so that every view can be linked to and gone back to.

export const PAGES = ["overview", "difficulty", "problems", "rollouts", "compare"];

// "#/rollouts?run=a&domain=math" -> {page, parts, query}; parts are what follows the page's name, as in "#/problems/17".
export function place(hash = location.hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page, ...parts] = path.split("/").map(decodeURIComponent);
  return { page: PAGES.includes(page) ? page : "overview", parts, query: Object.fromEntries(new URLSearchParams(search)) };
}

// A link to a page of the run that is shown (or of `query.run`); empty filters are left out.
export function href(page, query = {}, parts = []) {
  const run = query.run ?? place().query.run;
  const kept = Object.entries({ ...query, run }).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#/${[page, ...parts].map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export function go(page, query, parts) {
  location.hash = href(page, query, parts);
}

// Filters of the present page changed in place: no new entry in the browser's history for every letter typed.
export function refine(changes) {
  const { page, parts, query } = place();
  history.replaceState(null, "", href(page, { ...query, ...changes }, parts));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
