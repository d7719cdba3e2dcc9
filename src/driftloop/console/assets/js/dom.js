// Pages are built from nodes alone: whatever comes from outside becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("a", {href: "/", class: "x", onclick: f}, "text", child, [more])`. null and false are left out. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for a part of a drawing. */
export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) {
      if (typeof value !== "function") throw new TypeError(`${name} must be a function`);
      node.addEventListener(name.slice(2), value);
    } else if (name === "style") {
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    } else if (name === "data") {
      Object.assign(node.dataset, value);
    } else if (name === "value" || name === "checked" || name === "selected") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...flat(children));
  return node;
}

/** Put other children into a node, keeping the focus where its element says by `data-key` that it is the same one. */
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset?.key : undefined;
  node.replaceChildren(...flat(children));
  if (focused !== undefined) node.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  return node;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** A button; `options` are properties of the element. */
export function button(text, onclick, options = {}) {
  return h("button", { type: "button", onclick, ...options }, text);
}

/** A section with a heading, an optional remark beside it, and a body. */
export function panel(title, body, { note = null, actions = null, id = null, wide = false } = {}) {
  const heading = h("h2", {}, title);
  const head = h(
    "div",
    { class: "panel-head" },
    heading,
    note && h("p", { class: "note" }, note),
    actions && h("div", { class: "actions" }, actions),
  );
  return h("section", { class: wide ? "panel wide" : "panel", id, "aria-label": title }, head, body);
}

/** A figure with its name: a term and what it is. */
export function figure(name, value, detail = null, kind = "") {
  return h(
    "div",
    { class: `figure ${kind}` },
    h("dt", {}, name),
    h("dd", {}, h("span", { class: "value" }, value), detail && h("span", { class: "detail" }, detail)),
  );
}

/** A term and what it is, of a list with the class `pairs`. */
export const pair = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

/** A short word in a box; `kind` is good, warn, bad, info or plain. */
export function tag(text, kind = "plain", title = null) {
  return h("span", { class: `tag ${kind}`, title }, text);
}

/** A table of columns `[{name, cell(row), class, sort}]`; long ones scroll sideways in a region that keys reach. */
export function table(caption, columns, rows, { rowClass = () => null } = {}) {
  const head = columns.map((column) =>
    h("th", { scope: "col", class: column.class, "aria-sort": column.sorted ?? null }, column.head ?? column.name),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      { class: rowClass(row) },
      columns.map((column, index) =>
        h(
          index === 0 ? "th" : "td",
          { scope: index === 0 ? "row" : null, class: column.class, "data-name": column.name },
          column.cell(row),
        ),
      ),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": `${caption}, table` },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, body),
    ),
  );
}
