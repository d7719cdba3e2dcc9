// What a page shows while it has nothing to show: loading, empty, failed, not allowed.

import { signInPath } from "./api.js";
import { button, fill, h } from "./dom.js";
import { moment } from "./format.js";
import { refusalWords } from "./words.js";

/** While something is fetched. */
export const loading = (what) => h("p", { class: "state loading", role: "status" }, `Loading ${what}…`);

/** Where there is nothing, why, and what would change that. */
export function empty(title, explanation, action = null) {
  return h("div", { class: "state empty" }, h("p", { class: "state-title" }, title), h("p", {}, explanation), action);
}

/** Where the API refused or did not answer; `again` tries once more. */
export function failure(error, again = null) {
  const known = {
    0: ["The platform does not answer", null],
    401: [
      "Please sign in",
      h("a", { class: "button", href: signInPath() }, "Sign in"),
    ],
    403: ["This is not for your role", h("p", {}, "Ask whoever runs the platform for a role that may see it.")],
    404: ["There is nothing here", h("a", { class: "button", href: "/" }, "To the fleets")],
    409: ["There is nothing to show yet", null],
    422: ["What you ask for does not fit", null],
    429: ["Too much was asked at once", null],
    503: ["This cannot be shown now", null],
  }[error.status];
  const title = known?.[0] ?? "Something went wrong";
  return h(
    "div",
    { class: "state failed", role: "alert" },
    h("p", { class: "state-title" }, title),
    h("p", {}, refusalWords(error)),
    known?.[1] ?? null,
    again && error.status !== 401 && error.status !== 403 && button("Try again", again),
  );
}

/** Above what is of an earlier time, and why nothing newer is there. */
export const stale = (why, at, then) =>
  h(
    "p",
    { class: "stale", role: "status" },
    h("strong", {}, "This is not up to date. "),
    `${why.replace(/\.$/, "")}. What you see is from `,
    moment(at),
    `; ${then}.`,
  );

/** Of a watch that says nothing any more, since when. */
export const silentSince = (time) => ["The drift watch has said nothing since ", moment(time), "."];

/**
 * A part of a page that shows what `fetchIt` brings, drawn by `draw`, and can be shown anew. Only the newest answer
 * counts; a failure replaces the content only where there is none yet, else stands above it, and is tried again.
 */
export function part(what, fetchIt, draw, { every = null } = {}) {
  const node = h("div", { class: "part" }, loading(what));
  let turn = 0;
  let shown = null;
  let timer = null;
  async function refresh() {
    const mine = ++turn;
    clearTimeout(timer);
    let next = every;
    try {
      const found = await fetchIt();
      if (mine !== turn) return;
      fill(node, draw(found));
      shown = new Date();
    } catch (error) {
      if (mine !== turn) return;
      if (error.status === undefined) console.error(error);
      if (shown === null || error.status === 401) fill(node, failure(error, refresh));
      else {
        node.querySelector(":scope > .stale")?.remove();
        node.prepend(stale(refusalWords(error), shown.toISOString(), "it is tried again by itself"));
      }
      next = error.status === 0 || error.status >= 500 ? 3000 : every;
    }
    if (next !== null) timer = setTimeout(refresh, document.hidden ? 4 * next : next);
  }
  refresh();
  return { node, refresh };
}

/** A function that calls `act` once, a moment after the last of several calls. */
export function settled(act, wait = 200) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
}
