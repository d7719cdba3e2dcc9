// Which unit first: the plan that costs least, by what a failure and planned work cost and by the slots there are.

import { get, of } from "../api.js";
import { field } from "../act.js";
import { figure, h, panel, table, tag } from "../dom.js";
import { capital, count, number, one, percent, plural } from "../format.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";
import { RUL } from "../words.js";

const KEPT = "driftloop-plan";
const MOST = 25;
const SLOTS = {
  pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*",
  title: "Numbers with commas, one for each period: 2, 2, 0, 1",
};
const KINDS = { failure: "number", planned: "number", period: "number", slots: "string", run_on: "number" };
/** A period of null is as long as the platform finds fit for what the model sees ahead. */
const FIRST = { failure: 5, planned: 1, period: null, slots: "1, 1, 1, 1, 1, 1", run_on: 0 };

page(({ fleet, main, live }) => {
  const asked = { ...FIRST, ...remembered(fleet.name) };
  const entries = form(asked, fleet, () => again());
  const shown = part(
    "the plan",
    () => get(of(fleet.name, "plan"), { ...asked, slots: asked.slots.split(",").map((each) => each.trim()) }),
    (plan) => {
      if (asked.period === null) entries.period.value = plan.periods[0].ends;
      return draw(plan, fleet);
    },
    { every: 15_000 },
  );
  const again = settled(() => {
    remember(fleet.name, asked);
    shown.refresh();
  }, 300);
  main.append(
    h("div", { class: "title" }, h("h1", {}, "Plan"), h("p", {}, `which ${fleet.unit} to work on first, and why`)),
    panel(
      "What you have",
      [
        entries.node,
        h(
          "p",
          { class: "note" },
          `A slot is room for planned work on ${one(fleet.unit)}; work in a period is done when it begins. ${capital(plural(fleet.unit))} that are left to fail are those for which it costs least.`,
        ),
      ],
      { wide: true, note: "costs in your own currency; only their ratio counts" },
    ),
    shown.node,
    h("p", { class: "explain" }, RUL(fleet)),
  );
  const anew = settled(shown.refresh, 1000);
  live({ event: (event) => event.event !== "verdict" && anew(), resumed: (cut) => cut && anew() });
});

/** The form's `node`, and the control of its period: emptied, it is filled with what the platform finds fit. */
function form(asked, fleet, again) {
  const entry = (name, label, attributes, kind = "number") => {
    const required = FIRST[name] !== null;
    const { node, control } = field({ name, label, kind, value: asked[name] ?? "", required, attributes });
    control.addEventListener("input", () => {
      if (!control.checkValidity()) return;
      asked[name] = control.value === "" ? null : kind === "text" ? control.value : Number(control.value);
      again();
    });
    return { node, control };
  };
  const period = entry("period", `A period is, in ${plural(fleet.step)}`, { min: 1, step: 1 });
  const node = h(
    "div",
    { class: "tools" },
    entry("failure", "A failure costs", { min: 0, step: "any" }).node,
    entry("planned", "Planned work costs", { min: 0, step: "any" }).node,
    period.node,
    entry("slots", "Slots of each period, from now", SLOTS, "text").node,
    entry("run_on", "Left to fail, to learn from", { min: 0, step: 1 }).node,
  );
  return { node, period: period.control };
}

function draw(plan, fleet) {
  const { expected, without, learning } = plan;
  const ends = plan.periods.at(-1).ends;
  const enough =
    learning.steps_until_enough === null
      ? "never"
      : `in about ${count(Math.round(learning.steps_until_enough), fleet.step)}`;
  return [
    h(
      "dl",
      { class: "figures" },
      figure(
        "Failures to expect",
        number(expected.failures, 1),
        `${number(without.failures, 1)} without a plan, within ${count(ends, fleet.step)}`,
      ),
      figure("Costs to expect", number(expected.cost, 2), `${number(without.cost, 2)} without a plan`),
      figure("Best left alone", number(plan.running), plural(fleet.unit)),
      figure(
        "Enough to learn from",
        enough,
        `a retraining needs ${count(learning.needed, "failure")}; planned work teaches nothing`,
      ),
    ),
    panel(
      "In their slots",
      plan.work.length
        ? works("Units in their slots", plan.work, plan, fleet, true)
        : empty("Nothing needs a slot", `No ${fleet.unit} is worth work within the next ${count(ends, fleet.step)}.`),
      { wide: true, note: "by period; what saves most first" },
    ),
    plan.unserved.length > 0 &&
      panel(
        "Worth a slot, but none is left",
        works("Units worth a slot", plan.unserved.slice(0, MOST), plan, fleet, false),
        {
          wide: true,
          note: `more slots would save what is written here${plan.unserved.length > MOST ? `; the first ${MOST} of ${number(plan.unserved.length)}` : ""}`,
        },
      ),
    plan.run_on.length > 0 &&
      panel("Run on until they fail", works("Units to run on", plan.run_on, plan, fleet, false), {
        wide: true,
        note: "chosen since it costs least; their failures teach the model",
      }),
    panel("What it leaves to learn from", periods(plan, fleet), {
      wide: true,
      note: `only ${plural(fleet.unit)} that fail teach; when one that was taken out would have failed, nobody will know`,
    }),
    plan.unknown.length > 0 &&
      panel(
        "Have a look at these",
        h(
          "ul",
          { class: "plain-list" },
          plan.unknown.map((unit) => h("li", {}, link(unit, fleet))),
        ),
        { note: "the model knows nothing of them, so they are in no slot" },
      ),
  ];
}

function works(caption, rows, plan, fleet, slotted) {
  const risk = (share) => tag(percent(share), share > 0.5 ? "bad" : share > 0.1 ? "warn" : "good");
  const columns = [
    { name: capital(fleet.unit), class: "name", cell: (row) => link(row.unit, fleet) },
    slotted && { name: "Slot", cell: (row) => slot(plan.periods[row.period], fleet) },
    {
      name: "Expected",
      head: `Expected life, ${plural(fleet.step)}`,
      class: "num folds",
      cell: (row) => [number(row.rul), " ", h("span", { class: "nowrap" }, `(${number(row.lower)}–${number(row.upper)})`)],
    },
    slotted && {
      name: "Fails before",
      head: "Fails before its slot",
      class: "num wide-only",
      cell: (row) => risk(row.risk_before),
    },
    { name: "If left", head: "Fails if left", class: slotted ? "num wide-only" : "num", cell: (row) => risk(row.risk_if_left) },
    { name: "Saves", head: "Saved cost", class: "num strong", cell: (row) => number(row.saves, 2) },
  ];
  return table(caption, columns.filter(Boolean), rows);
}

/** What is to be expected in each period, and how many failures there are until then. */
function periods(plan, fleet) {
  let until = 0;
  const rows = plan.periods.map((one) => ({ ...one, until: (until += one.failures) }));
  const column = (name, head, key, wide = "") => ({
    name,
    head,
    class: `num ${wide}`,
    cell: (row) => number(row[key], 1),
  });
  return table(
    "Failures and planned work by period",
    [
      {
        name: "Period",
        head: `Period, ${plural(fleet.step)} from now`,
        class: "nowrap",
        cell: (row) => `${number(row.begins)} to ${number(row.ends)}`,
      },
      { name: "Slots", class: "num wide-only", cell: (row) => number(row.slots) },
      column("Taken out", "Taken out", "removed"),
      column("Failures", "Failures", "failures"),
      column("Without a plan", "Without a plan", "failures_without_plan", "wide-only"),
      {
        name: "Failures until then",
        class: "num strong",
        cell: (row) => `${number(row.until, 1)} of ${number(plan.learning.needed)}`,
      },
    ],
    rows,
  );
}

const slot = (period, fleet) => (period.begins === 0 ? "now" : `in ${count(period.begins, fleet.step)}`);
const link = (unit, fleet) => h("a", { href: of(fleet.name, "units", unit) }, unit);

function remembered(fleet) {
  try {
    const found = JSON.parse(localStorage.getItem(`${KEPT}-${fleet}`) ?? "{}");
    return Object.fromEntries(
      Object.entries(found).filter(([name, value]) => name in FIRST && typeof value === KINDS[name]),
    );
  } catch {
    return {};
  }
}

function remember(fleet, asked) {
  try {
    localStorage.setItem(`${KEPT}-${fleet}`, JSON.stringify(asked));
  } catch {
    // It then lasts as long as this page.
  }
}
