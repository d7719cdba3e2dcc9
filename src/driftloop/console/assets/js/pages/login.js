// Signing in: a name and a password, and then on to where the reader came from.

import { post, whoAmI } from "../api.js";
import { field, refused } from "../act.js";
import { fill, h } from "../dom.js";
import { logo } from "../shell.js";

const TITLES = {
  401: "Name or password is wrong",
  429: "Too many tries; wait a while",
  0: "The platform does not answer",
};

const main = document.getElementById("main");
const problem = h("div", {});
const name = field({ name: "name", label: "Name", required: true, attributes: { autocomplete: "username" } });
const password = field({
  name: "password",
  label: "Password",
  kind: "password",
  required: true,
  attributes: { autocomplete: "current-password" },
});
const go = h("button", { type: "submit", class: "primary" }, "Sign in");
const form = h(
  "form",
  { class: "login panel", onsubmit: enter },
  h("h1", {}, "Sign in"),
  h("p", { class: "note" }, "Looking on this machine needs no name; changing something does."),
  name.node,
  password.node,
  problem,
  h("div", { class: "actions" }, h("a", { class: "button", href: "/" }, "Only look"), go),
);
document
  .getElementById("top")
  .replaceChildren(h("a", { class: "brand", href: "/", "aria-label": "driftloop" }, logo(), "driftloop"));
document.getElementById("nav").hidden = true;
fill(main, form);
name.control.focus();

/** A path of this site; anything else leads to the start. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(wanted, location.origin);
  // A path that begins with two slashes, as `/.//name` does once it is read, is the address of somebody else.
  const own = url.origin === location.origin && wanted.startsWith("/") && !url.pathname.startsWith("//");
  return own ? url.href : "/";
}

async function enter(event) {
  event.preventDefault();
  go.disabled = true;
  try {
    await whoAmI().catch(() => null);
    await post("/login", { name: name.value(), password: password.control.value });
    location.assign(next());
  } catch (error) {
    fill(problem, refused(error, TITLES));
    password.control.value = "";
    password.control.focus();
  } finally {
    go.disabled = false;
  }
}
