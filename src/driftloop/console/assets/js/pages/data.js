// The archive: the completed runs that models learn from, what each is for, what was refused or withdrawn.

import { get, of, post } from "../api.js";
import { REASON, ask, may, notAllowed } from "../act.js";
import { button, figure, fill, h, panel, table, tag } from "../dom.js";
import { capital, count, moment, number, one, plural } from "../format.js";
import { pager } from "../pager.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";
import { ROLES } from "../words.js";

const ROWS = 50;

page(({ me, fleet, main, live }) => {
  const query = { role: "", q: "", offset: 0, limit: ROWS };
  const roles = h("div", {});
  const refused = h("div", {}, h("p", { class: "fine" }, "Not known yet."));
  const place = h("div", { class: "pager" });
  const runs = part("completed runs", () => get(of(fleet.name, "runs"), query), draw, { every: 20_000 });
  const now = (changes) => {
    Object.assign(query, { offset: 0 }, changes);
    return runs.refresh();
  };
  const find = h("input", {
    type: "search",
    id: "find",
    placeholder: "Find a run",
    oninput: settled(() => now({ q: find.value.trim() }), 250),
    autocomplete: "off",
  });
  const role = h(
    "select",
    { id: "role", onchange: (event) => now({ role: event.target.value }) },
    h("option", { value: "" }, "all"),
    Object.entries(ROLES).map(([name, [text]]) => h("option", { value: name }, text)),
  );

  main.append(
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Data"),
      h(
        "p",
        {},
        `Runs of ${plural(fleet.unit)} that came to their end: what models learn from. What ${one(fleet.unit)} is for never changes, so no model is judged on what it learnt.`,
      ),
    ),
    roles,
    panel(
      "Completed runs",
      [
        h(
          "div",
          { class: "tools" },
          h("label", { for: "find", class: "visually-hidden" }, "Find a run"),
          find,
          h("label", { for: "role" }, "For"),
          role,
          h("span", { class: "grow" }),
          place,
        ),
        runs.node,
        notAllowed(me, "operate"),
      ],
      { wide: true },
    ),
    panel("Refused", refused, { wide: true, note: "what was sent and could not be used, newest first" }),
  );

  function draw(found) {
    fill(
      roles,
      h(
        "dl",
        { class: "figures" },
        Object.entries(ROLES).map(([name, [text, why]]) => figure(capital(text), number(found.roles[name] ?? 0), why)),
      ),
    );
    fill(refused, refusals(found.refused));
    const { total } = found;
    fill(place, pager(query, { total, shown: found.runs.length, of: count(total, "run"), again: runs.refresh }));
    if (!total)
      return query.q || query.role
        ? empty("No run matches", "Try a shorter name, or all roles.")
        : empty("The archive is empty", "Add completed runs: driftloop archive add FILE, or send them to the API.");
    return table("Completed runs", columns(found.runs), found.runs, {
      rowClass: (row) => (row.withdrawn ? "withdrawn" : null),
    });
  }

  /** What nobody knows of any of these runs has no column. */
  function columns(runs) {
    const known = (name) => runs.some((row) => row[name] !== null && row[name] !== undefined);
    const acts = may(me, "operate")
      ? [
          {
            name: "",
            head: h("span", { class: "visually-hidden" }, "Acts"),
            cell: (row) =>
              row.withdrawn
                ? null
                : button("Withdraw", () => withdraw(row), { class: "small", "aria-label": `Withdraw ${row.run_id}` }),
          },
        ]
      : [];
    return [
      {
        name: "Run",
        class: "name",
        cell: (row) => [row.run_id, row.withdrawn && h("span", { class: "tags" }, tag("withdrawn", "warn"))],
      },
      { name: "For", cell: (row) => ROLES[row.role]?.[0] ?? row.role },
      ...(known("rows")
        ? [{ name: `Length, ${plural(fleet.step)}`, class: "num", cell: (row) => number(row.rows) }]
        : []),
      ...(known("censored")
        ? [
            {
              name: "End",
              cell: (row) =>
                row.censored === null || row.censored === undefined ? "–" : row.censored ? "taken out before" : "failed",
            },
          ]
        : []),
      ...(known("withdrawn")
        ? [
            {
              name: "Withdrawn",
              cell: (row) => (row.withdrawn ? [moment(row.withdrawn.time), ` – ${row.withdrawn.reason}`] : "–"),
            },
          ]
        : []),
      ...acts,
    ];
  }

  function withdraw(row) {
    ask({
      title: `Withdraw ${row.run_id}?`,
      verb: "Withdraw",
      danger: true,
      after: () => runs.refresh(),
      text: "No model learns from it any more. It stays in the archive, marked, with your reason.",
      fields: [REASON],
      run: async (values) => {
        await post(of(fleet.name, "runs", "withdraw"), { runs: [row.run_id], reason: values.reason });
        return `${row.run_id} is withdrawn.`;
      },
    });
  }

  const again = settled(() => runs.refresh(), 500);
  live({ event: (event) => event.event.startsWith("runs_") && again(), resumed: (anew) => anew && again() });
});

function refusals(found) {
  if (!found.length) return h("p", { class: "fine" }, "Nothing was refused.");
  const columns = [
    { name: "When", cell: (row) => moment(row.time) },
    { name: "Runs", class: "num", cell: (row) => number(row.count) },
    {
      name: "Which",
      cell: (row) =>
        h(
          "ul",
          { class: "plain-list tight" },
          row.runs.slice(0, 20).map((run) => h("li", {}, run)),
        ),
    },
  ];
  return table("Refused runs", columns, found);
}
