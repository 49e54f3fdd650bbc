// Elements built by hand. Everything a policy wrote reaches the page as a text node and in no other way.

const SAFE_LINK = /^(#|\/api\/|blob:)/;
const SAFE_SOURCE = /^(\/api\/|blob:|data:image\/png;base64,)/;

function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) {
    if (typeof value !== "function") throw new TypeError(`${name} must be a function`);
    node.addEventListener(name.slice(2), value);
  } else if (name === "style") {
    Object.assign(node.style, value);
  } else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") {
    node[name] = value;
  } else {
    if (name === "href" && !SAFE_LINK.test(value)) throw new TypeError(`no link to ${value}`);
    if (name === "src" && !SAFE_SOURCE.test(value)) throw new TypeError(`no source ${value}`);
    node.setAttribute(name, value === true ? "" : String(value));
  }
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) setAttribute(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// el("a", {href: "#/overview"}, "text", [more]): strings become text nodes.
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// A table of a head and rows of cells. `column(at)` -> attributes of the cells in that column.
export function table(head, rows, column = () => ({})) {
  return el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head.map((cell, at) => el("th", { scope: "col", ...column(at) }, cell)),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          row.map((cell, at) => el("td", column(at), cell)),
        ),
      ),
    ),
  );
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
