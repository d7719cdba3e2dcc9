// What all pages share: who is looking, the fleets, the way around, the colours, the live connection.

import { get, of, post, signInPath, whoAmI } from "./api.js";
import { tell } from "./act.js";
import { button, fill, h, s } from "./dom.js";
import { moment } from "./format.js";
import { listen } from "./live.js";
import { failure } from "./states.js";
import { eventWords } from "./words.js";

const OF_FLEET = [
  ["", "Fleet"],
  ["/plan", "Plan"],
  ["/loop", "Loop"],
  ["/models", "Models"],
  ["/data", "Data"],
  ["/events", "Events"],
];

/** The fleet of this page's address, and the unit; null where there is none. */
export function place() {
  const parts = location.pathname.split("/").map(decoded);
  const fleet = parts[1] === "fleets" ? parts[2] : null;
  return { fleet, unit: parts[3] === "units" ? parts.slice(4).join("/") : null };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // No text was ever written so; the API says that there is nothing of this name.
  }
}

/**
 * Start a page: draws its frame, then `draw({me, fleet, fleets, main, live})` fills it. `live(on, from)` listens to the
 * fleet's events; the banner about a cut connection is the frame's own.
 */
export async function page(draw) {
  const main = document.getElementById("main");
  const { fleet: name, unit } = place();
  try {
    const [me, { fleets }, fleet] = await Promise.all([whoAmI(), get("/fleets"), name === null ? null : get(of(name))]);
    frame(me, fleets, fleet?.name ?? null);
    const live = (on, from = null) => connect(name, on, from, me);
    main.replaceChildren();
    await draw({ me, fleet, fleets, unit, main, live });
  } catch (error) {
    if (error.status === undefined) console.error(error);
    if (error.status === 401) return location.replace(signInPath());
    frame(null, [], null);
    fill(
      main,
      h("h1", { class: "visually-hidden" }, document.title),
      failure(error, () => page(draw)),
    );
  }
}

function frame(me, fleets, fleet) {
  document.title = [document.querySelector("title").textContent.split(" · ")[0], fleet, "driftloop"]
    .filter(Boolean)
    .join(" · ");
  fill(
    document.getElementById("top"),
    h("a", { class: "brand", href: "/", "aria-label": "driftloop, all fleets" }, logo(), "driftloop"),
    fleetSwitch(fleets, fleet),
    h("span", { class: "grow" }),
    h("span", { id: "live", class: "live", title: "Changes appear by themselves" }),
    themeSwitch(),
    who(me),
  );
  const shown = fleet ?? (fleets.length === 1 ? fleets[0].name : null);
  const links =
    shown === null
      ? [["/", "Fleets"]]
      : OF_FLEET.map(([end, text]) => [`${of(shown)}${end}`, text]);
  fill(
    document.getElementById("nav"),
    h(
      "ul",
      {},
      [...links, ["/platform", "Platform"]].map(([href, text]) =>
        h("li", {}, h("a", { href, "aria-current": isHere(href) ? "page" : null }, icon(text), text)),
      ),
    ),
  );
  // The row of pages scrolls on a narrow screen: show where the reader is.
  const here = document.querySelector('#nav [aria-current="page"]');
  if (here) document.getElementById("nav").scrollLeft = here.offsetLeft - 60;
}

function isHere(href) {
  const parts = (path) => path.split("/").filter(Boolean);
  const [own, link] = [parts(location.pathname), parts(href)];
  const ownPage = own[2] === "units" ? own.slice(0, 2) : own;
  return ownPage.join("/") === link.join("/");
}

export const logo = () =>
  s(
    "svg",
    { viewBox: "0 0 32 32", "aria-hidden": "true", class: "logo" },
    s("path", { d: "M22.5 11.2A8 8 0 1 0 24 16", class: "ring" }),
    s("path", { d: "M24.5 6.5v6h-6", class: "tip" }),
  );

const ICONS = {
  Fleets: "M3 5h18M3 12h18M3 19h18",
  Fleet: "M4 20V9m5 11V4m5 16v-8m5 8V7",
  Plan: "M4 6h16v14H4zM4 10h16M8 3v5m8-5v5M8 15l3 3 5-6",
  Loop: "M20 6v5h-5M4 18v-5h5M19 11a7.5 7.5 0 0 0-13-3M5 13a7.5 7.5 0 0 0 13 3",
  Models: "M12 3 3 8l9 5 9-5-9-5ZM3 13l9 5 9-5",
  Data: "M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0V6Zm0 0c0 4 16 4 16 0M4 12c0 4 16 4 16 0",
  Events: "M5 6h14M5 12h14M5 18h9",
  Platform: "M4 5h16v6H4zM4 14h16v6H4zM8 8h.01M8 17h.01",
};
const icon = (name) =>
  s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }, s("path", { d: ICONS[name] ?? "" }));

function fleetSwitch(fleets, fleet) {
  if (fleets.length < 2) return fleets.length ? h("span", { class: "fleet-name" }, fleets[0].name) : null;
  const go = (event) =>
    event.target.value !== "" && location.assign(`${of(event.target.value)}${sameSubpage()}`);
  return h(
    "div",
    { class: "fleet-switch" },
    h(
      "select",
      { onchange: go, "aria-label": "Fleet" },
      fleet === null && h("option", { value: "" }, "fleets …"),
      fleets.map((each) => h("option", { value: each.name, selected: each.name === fleet }, each.name)),
    ),
  );
}

function sameSubpage() {
  const part = location.pathname.split("/")[3];
  return ["plan", "loop", "models", "data", "events"].includes(part) ? `/${part}` : "";
}

function themeSwitch() {
  const dark = () =>
    (document.documentElement.dataset.theme ??
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => (dark() ? "Light colours" : "Dark colours");
  const flip = () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("driftloop-theme", chosen);
    } catch {
      // It then lasts as long as this page.
    }
    control.setAttribute("aria-label", label());
    control.title = label();
    dispatchEvent(new Event("themechange"));
  };
  const sun = s(
    "svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    s("path", { d: "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9Z" }),
  );
  const control = h(
    "button",
    { type: "button", class: "quiet", "aria-label": label(), title: label(), onclick: flip },
    sun,
  );
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
  return control;
}

function who(me) {
  if (me === null) return null;
  const leave = async () => {
    await post("/logout");
    location.assign("/login");
  };
  const says = h(
    "span",
    { class: "who", title: `How: ${me.how}` },
    h("span", { class: "who-name" }, me.name),
    h("span", { class: "who-role" }, me.role),
  );
  return [
    says,
    me.how === "session"
      ? button("Sign out", leave, { class: "quiet" })
      : me.how === "loopback"
        ? h("a", { class: "quiet button", href: signInPath() }, "Sign in")
        : me.how === "proxy"
          ? h("a", { class: "quiet button", href: "/oauth2/sign_out" }, "Sign out")
          : null,
  ];
}

const HUMAN_ACTS = new Set([
  "promoted",
  "rolled_back",
  "approval_answered",
  "muted",
  "unmuted",
  "runs_withdrawn",
  "schedule_added",
  "schedule_removed",
]);

function connect(fleet, on, from, me) {
  const light = document.getElementById("live");
  const show = (text, kind) => {
    light.textContent = text;
    light.className = `live ${kind}`;
  };
  listen(
    fleet,
    {
      event(event, id) {
        if (event.who && event.who !== me.name && HUMAN_ACTS.has(event.event)) {
          const did =
            { approve: "approved", reject: "rejected" }[event.answer] ?? eventWords(event.event)[0].toLowerCase();
          tell(
            `${event.who}: ${did}${event.model_version ? ` (model ${event.model_version})` : ""}${event.reason ? ` – ${event.reason}` : ""}`,
          );
        }
        on.event?.(event, id);
      },
      state: (content) => on.state?.(content),
      cut(since) {
        show("cut off", "bad");
        banner(since);
        on.cut?.(since);
      },
      resumed(again) {
        show("live", "good");
        banner(null);
        on.resumed?.(again);
      },
      refused(status) {
        if (status === 401) location.replace(signInPath());
      },
    },
    from,
  );
}

function banner(since) {
  document.getElementById("cut")?.remove();
  if (since === null) return;
  const text = h(
    "div",
    { id: "cut", class: "banner", role: "alert" },
    h("strong", {}, "The connection is cut. "),
    "What you see is from ",
    moment(since),
    ". It is tried again, and nothing that happens meanwhile is lost.",
  );
  document.getElementById("nav").after(text);
}
