// The platform itself: its parts and how they are, where they answer, and for administrators who may do what.

import { get, post, remove, signInPath } from "../api.js";
import { ask, may } from "../act.js";
import { button, figure, h, panel, table, tag } from "../dom.js";
import { bytes, moment, number } from "../format.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";
import { DOES } from "../words.js";

const GOOD = new Set(["ready", "running"]);
const WAITING = new Set(["starting"]);
const ROLES = [
  ["view", "view: look"],
  ["predict", "predict: look, and ask for predictions"],
  ["operate", "operate: look, and act on the loop and its models"],
  ["admin", "admin: everything, tokens too"],
];

page(({ me, main, live }) => {
  const platform = part("the platform", () => get("/platform"), draw, { every: 5000 });
  main.append(
    h("div", { class: "title" }, h("h1", {}, "Platform"), h("p", {}, "The parts that make it up, and how they are.")),
    platform.node,
  );
  if (may(me, "admin")) main.append(...administration());
  else
    main.append(
      panel(
        "Access",
        empty(
          "Tokens and the audit log are for administrators",
          `You look as “${me.name}” (${me.role}).`,
          h("a", { class: "button", href: signInPath() }, "Sign in as somebody else"),
        ),
      ),
    );
  live({ state: settled(platform.refresh), resumed: (anew) => anew && platform.refresh() });
});

function draw(found) {
  const bad = found.components.filter((component) => !GOOD.has(component.state));
  const columns = [
    {
      name: "Part",
      cell: (row) => [
        h("strong", {}, row.name),
        row.fleet && !row.name.includes("/") && h("span", { class: "note" }, ` ${row.fleet}`),
        h("span", { class: "block note" }, DOES[row.name.split("/").at(-1)]),
      ],
    },
    {
      name: "State",
      cell: (row) => [
        tag(row.state, GOOD.has(row.state) ? "good" : WAITING.has(row.state) ? "info" : "bad"),
        row.message && h("span", { class: "block note" }, row.message),
      ],
    },
    { name: "Since", class: "nowrap", cell: (row) => moment(row.since) },
    { name: "Address", cell: (row) => (row.address ? h("code", {}, row.address) : "–") },
    { name: "Memory", class: "num", cell: (row) => bytes(row.memory_bytes) },
    { name: "Restarts", class: "num", cell: (row) => number(row.restarts) },
  ];
  return [
    h(
      "dl",
      { class: "figures" },
      figure("Version", found.version),
      figure("Started", moment(found.started)),
      figure("Fleets", number(found.fleets.length), found.fleets.join(", ")),
      figure(
        "Parts",
        bad.length
          ? `${number(found.components.length - bad.length)} of ${number(found.components.length)} well`
          : `all ${number(found.components.length)} well`,
      ),
      // Of several fleets each has its own, which stands among the parts.
      found.telemetry && found.fleets.length === 1 && figure("Readings go to", h("code", {}, found.telemetry)),
    ),
    panel(
      "Parts",
      found.components.length
        ? table("Parts of the platform", columns, found.components)
        : empty("No part is known", "The platform has not written what it started yet."),
      { wide: true },
    ),
    h(
      "p",
      { class: "note" },
      "Programs use the same answers as these pages: ",
      h("a", { href: "/api/docs" }, "the API and its documentation"),
      ".",
    ),
  ];
}

function administration() {
  const after = () => [tokens, audit].forEach((each) => each.refresh());
  const tokens = part(
    "tokens",
    () => get("/tokens"),
    (found) => drawTokens(found.tokens, after),
  );
  const audit = part(
    "the audit log",
    () => get("/audit"),
    (found) => drawAudit(found.entries),
    { every: 30_000 },
  );
  return [
    panel("Tokens", tokens.node, {
      wide: true,
      note: "one for each program or person; only their fingerprints are stored",
      actions: button("Add a token", () => addToken(after)),
    }),
    panel("Audit log", audit.node, {
      wide: true,
      note: "every act that changes something: who, what, from where, and what became of it",
    }),
  ];
}

function addToken(after) {
  ask({
    title: "Add a token",
    verb: "Add",
    after,
    text: "It is shown once, now. Give it to the program that needs it, by a safe way.",
    fields: [
      { name: "name", label: "Name of the program or person", required: true },
      { name: "role", label: "May", kind: "select", options: ROLES, value: "view" },
    ],
    run: async (values) => {
      const made = await post("/tokens", values);
      ask({
        title: `The token of “${values.name}”`,
        verb: "I have copied it",
        text: [
          h("p", {}, "It cannot be shown again."),
          h("p", {}, h("code", { class: "secret" }, made.token)),
        ],
        run: async () => "Done.",
      });
      return `A token for “${values.name}” was made.`;
    },
  });
}

function drawTokens(found, after) {
  if (!found.length) return empty("No token", "Programs need one to change anything.");
  const columns = [
    { name: "Name", cell: (row) => row.name },
    { name: "Role", cell: (row) => row.role },
    { name: "Made", cell: (row) => moment(row.created) },
    { name: "Ends", cell: (row) => (row.expires ? moment(row.expires) : "never") },
    {
      name: "",
      head: h("span", { class: "visually-hidden" }, "Acts"),
      cell: (row) =>
        button(
          "Revoke",
          () =>
            ask({
              title: `Revoke the token of “${row.name}”?`,
              verb: "Revoke",
              danger: true,
              after,
              text: "Whoever uses it is refused from now on.",
              run: async () => {
                await remove(`/tokens/${encodeURIComponent(row.name)}`);
                return `The token of “${row.name}” no longer opens anything.`;
              },
            }),
          { class: "small", "aria-label": `Revoke ${row.name}` },
        ),
    },
  ];
  return table("Tokens", columns, found);
}

function drawAudit(entries) {
  if (!entries.length) return empty("Nothing yet", "The first act that changes something appears here.");
  const columns = [
    { name: "When", class: "nowrap", cell: (row) => moment(row.time) },
    { name: "Who", cell: (row) => `${row.who ?? "–"}${row.role ? ` (${row.role})` : ""}` },
    { name: "What", cell: (row) => row.act },
    { name: "From", class: "wide-only", cell: (row) => row.address },
    { name: "Outcome", cell: (row) => row.outcome },
  ];
  return table("Audit log", columns, entries.toReversed());
}
