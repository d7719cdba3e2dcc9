// The fleet in service: who is due first, by the cautious end of the range, and how good the data are.

import { get, of } from "../api.js";
import { button, figure, fill, h, panel, table, tag } from "../dom.js";
import { capital, count, moment, number, one, plural } from "../format.js";
import { loopOf, modelOf, trafficOf, unitsOf } from "../glance.js";
import { pager } from "../pager.js";
import { page } from "../shell.js";
import { empty, part, settled, silentSince } from "../states.js";
import { stateWords } from "../unit_acts.js";
import { FLAG_NAMES, RUL, flagWords, tellingFlags } from "../words.js";

const ROWS = 50;
const UNIT_STATES = { running: "in service", failed: "failed", removed: "removed", all: "any" };

page(({ fleet, main, live }) => {
  const summary = part("the fleet", () => get(of(fleet.name)), top, { every: 10_000 });
  const units = listing(fleet);
  const quality = part(
    "data quality",
    () => askQuality(fleet),
    (found) => qualityOf(found, fleet, units.only),
    { every: 30_000 },
  );
  main.append(
    h("div", { class: "title" }, h("h1", {}, fleet.name), h("p", {}, fleet.description)),
    summary.node,
    h("p", { class: "explain" }, RUL(fleet)),
    panel("Data quality", quality.node, { note: "what the answers and the watch say about the readings" }),
    units.node,
  );
  const again = settled(() => [summary.refresh(), units.refresh(), quality.refresh()], 500);
  live({
    event: (event) => event.event !== "verdict" && again(),
    // Comes with each step of a training too; only the summary tells of it.
    state: settled(summary.refresh, 500),
    resumed: (anew) => anew && again(),
  });
});

function top(fleet) {
  const due = fleet.first_due;
  return h(
    "dl",
    { class: "figures" },
    figure("In service", ...unitsOf(fleet)),
    figure(
      "First due",
      due ? h("a", { href: of(fleet.name, "units", due.unit) }, due.unit) : "–",
      due
        ? `in ${number(due.low)} to ${count(due.high, fleet.step)}`
        : fleet.units === null
          ? "not known"
          : "no unit seen yet",
    ),
    figure(
      "Model in service",
      ...modelOf(fleet, h("a", { href: of(fleet.name, "models") }, `version ${fleet.champion}`)),
    ),
    figure("The fleet’s traffic", ...trafficOf(fleet)),
    figure("The loop", ...loopOf(fleet, of(fleet.name, "loop"))),
  );
}

function listing(fleet) {
  const query = { sort: "low", order: "asc", q: "", flag: "", state: "running", offset: 0, limit: ROWS };
  const place = h("div", { class: "pager" });
  const problems = h("div", {});
  const list = part(plural(fleet.unit), () => get(of(fleet.name, "units"), query), draw, { every: 10_000 });
  const now = (changes) => {
    Object.assign(query, { offset: 0 }, changes);
    return list.refresh();
  };
  const search = settled(() => now({ q: find.value.trim() }), 250);
  const find = h("input", {
    type: "search",
    id: "find",
    placeholder: `Find ${one(fleet.unit)}`,
    oninput: search,
    autocomplete: "off",
    spellcheck: "false",
  });
  const flags = h(
    "select",
    { id: "flag", onchange: (event) => now({ flag: event.target.value }) },
    h("option", { value: "" }, "all"),
    FLAG_NAMES.map((name) => h("option", { value: name }, flagWords(name)[0])),
  );
  const states = h(
    "select",
    { id: "state", onchange: (event) => now({ state: event.target.value }) },
    Object.entries(UNIT_STATES).map(([key, text]) => h("option", { value: key }, text)),
  );
  const only = (flag) => {
    flags.value = flag;
    now({ flag });
    find.scrollIntoView({ block: "center" });
  };

  function draw({ total, units, problem }) {
    fill(problems, problem && h("p", { class: "not-allowed", role: "status" }, problem));
    fill(place, pager(query, { total, shown: units.length, of: count(total, fleet.unit), again: turned }));
    if (!total && (query.q || query.flag || query.state !== "running"))
      return empty(
        `No ${fleet.unit} matches`,
        "Try a shorter name, or show all in service.",
        button("Show all in service", () => {
          find.value = flags.value = "";
          states.value = "running";
          now({ q: "", flag: "", state: "running" });
        }),
      );
    if (!total)
      return empty(
        `No ${fleet.unit} seen yet`,
        `As soon as readings of ${one(fleet.unit)} arrive, it appears here.`,
      );
    return table(`${plural(fleet.unit)} in service`, columns(longest(units)), units);
  }

  function turned() {
    list.refresh();
    list.node.scrollIntoView({ block: "start" });
  }

  const sorter = (key, text) => {
    const active = query.sort === key;
    const flip = () => now({ sort: key, order: active && query.order === "asc" ? "desc" : "asc" });
    return {
      head: button(
        [text, h("span", { class: "arrow", "aria-hidden": "true" }, active ? (query.order === "asc" ? "▲" : "▼") : "")],
        flip,
        { class: "sort", "data-key": `sort-${key}` },
      ),
      sorted: active ? (query.order === "asc" ? "ascending" : "descending") : null,
    };
  };

  /** The longest life that the model tells apart, or where nobody has set one, the longest of these. */
  const longest = (units) => fleet.cap ?? Math.max(1, ...units.map((row) => row.high ?? 0));

  function columns(most) {
    return [
      {
        name: "Unit",
        ...sorter("unit", capital(fleet.unit)),
        class: "name",
        cell: (row) => [
          h("a", { href: of(fleet.name, "units", row.unit) }, row.unit),
          h(
            "span",
            { class: "tags" },
            row.state && row.state !== "running" && tag(stateWords(row.state), row.state === "failed" ? "bad" : "plain"),
            tellingFlags(row.flags).map(flagTag),
          ),
        ],
      },
      { name: "At least", ...sorter("low", "At least"), class: "num strong", cell: (row) => number(row.low) },
      { name: "Expected", ...sorter("rul", "Expected"), class: "num wide-only", cell: (row) => number(row.rul) },
      { name: `Range in ${plural(fleet.step)}`, class: "range-cell", cell: (row) => rangeBar(row, fleet, most) },
      { name: "Age", head: `Age, ${plural(fleet.step)}`, class: "num wide-only", cell: (row) => number(row.step) },
      {
        name: "Last seen",
        ...sorter("last_seen", "Last seen"),
        class: "nowrap wide-only",
        cell: (row) => moment(row.last_seen, { relative: true }),
      },
      { name: "Model", class: "num wide-only", cell: (row) => row.version },
    ];
  }

  const tools = h(
    "div",
    { class: "tools" },
    h("label", { for: "find", class: "visually-hidden" }, `Find ${one(fleet.unit)}`),
    find,
    h("span", { class: "choice" }, h("label", { for: "state" }, "State"), states),
    h("span", { class: "choice" }, h("label", { for: "flag" }, "Flag"), flags),
    h("span", { class: "grow" }),
    place,
  );
  const node = h(
    "section",
    { class: "panel wide", "aria-label": `${plural(fleet.unit)} in service` },
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, "In service"),
      h("p", { class: "note" }, `remaining life in ${plural(fleet.step)}, first due first`),
    ),
    problems,
    tools,
    list.node,
  );
  return { node, refresh: list.refresh, only };
}

const flagTag = (flag) => {
  const [text, kind, why] = flagWords(flag);
  return tag(text, kind, why);
};

/** The range as a bar from nothing to the longest life that the model tells apart. */
function rangeBar(row, fleet, most) {
  if (typeof row.low !== "number" || typeof row.high !== "number") return h("span", { class: "note" }, "no answer yet");
  const at = (value) => `${Math.min(100, Math.max(0, (100 * value) / most))}%`;
  const kind = row.low <= most * 0.1 ? "bad" : row.low <= most * 0.25 ? "warn" : "good";
  return h(
    "div",
    {
      class: `range ${kind}`,
      role: "img",
      "aria-label": `${number(row.low)} to ${count(row.high, fleet.step)}`,
      title: `${number(row.low)} to ${count(row.high, fleet.step)}`,
    },
    h("i", { class: "span", style: { left: at(row.low), width: `calc(${at(row.high)} - ${at(row.low)})` } }),
    h("i", { class: "dot", style: { left: at(row.rul) } }),
  );
}

async function askQuality(fleet) {
  const [{ total, flags }, verdict] = await Promise.all([
    get(of(fleet.name, "units"), { limit: 1 }),
    get(of(fleet.name, "verdict")),
  ]);
  return {
    units: total,
    flags: FLAG_NAMES.map((flag) => [flag, flags[flag] ?? 0]),
    faults: verdict.sensor_faults ?? [],
    requests: verdict.requests,
    silent: verdict.silent ? verdict.as_of : null,
  };
}

function qualityOf({ units, flags, faults, requests, silent }, fleet, only) {
  const counted = new Map(flags);
  const said = (flag, total) => flag === "out_of_distribution" && total === counted.get("unseen_regime");
  const found = flags.filter(([flag, total]) => total > 0 && !said(flag, total));
  const list = [
    silent !== null && h("li", {}, tag("sensors not watched", "warn"), " ", silentSince(silent)),
    ...faults.map((fault) => h("li", {}, tag("sensor", "bad"), ` ${fault.sensor}: ${fault.what}`)),
    ...found.map(([flag, total]) =>
      h(
        "li",
        {},
        flagTag(flag),
        ` ${count(total, fleet.unit)} – ${flagWords(flag)[2] ?? ""} `,
        button("show them", () => only(flag), {
          class: "link",
          "aria-label": `Show ${plural(fleet.unit)} with ${flagWords(flag)[0]}`,
        }),
      ),
    ),
  ].filter(Boolean);
  if (!units && !list.length) return h("p", { class: "fine" }, `No ${fleet.unit} has been seen yet.`);
  return list.length
    ? h("ul", { class: "plain-list" }, list)
    : h(
        "p",
        { class: "fine" },
        tag("good", "good"),
        ` No ${fleet.unit} in service has a flag, and no sensor is suspected${requests ? ` (the watch looks at the newest ${count(requests, "request")})` : ""}.`,
      );
}
