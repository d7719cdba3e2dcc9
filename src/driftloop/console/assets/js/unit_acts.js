// What a person tells of a unit: installed, failed, removed, overhauled; what never happened is taken back.

import { ask, may } from "./act.js";
import { of, post, remove } from "./api.js";
import { button, h, table, tag } from "./dom.js";
import { moment, plural } from "./format.js";
import { empty } from "./states.js";

/** What may be told, by kind: as a button, as an entry of the table, as a question, and what comes of it. */
const KINDS = {
  failed: {
    verb: "It has failed",
    said: "failed",
    title: (unit) => `Has ${unit} failed?`,
    text: () =>
      "Its life ends here. The readings are archived as a run to failure, each prediction gets the life that was really left, and the next retraining learns from it.",
  },
  removed: {
    verb: "It was removed",
    said: "removed while healthy",
    title: (unit) => `Was ${unit} removed before it failed?`,
    text: () =>
      "Its life ends here without a failure. The readings are archived as cut short: they say that it lasted so long, never that it failed.",
  },
  overhauled: {
    verb: "It was overhauled",
    said: "overhauled",
    title: (unit) => `Was ${unit} overhauled?`,
    text: () => "Its life ends here without a failure, and the next reading begins a new life at age 0.",
  },
  installed: {
    verb: "It was installed",
    said: "installed",
    title: (unit) => `Was ${unit} installed?`,
    text: (fleet) => `Says how old it was when its life here began. With that, predictions know its age in ${plural(fleet.step)}.`,
  },
};

export const kindWords = (kind) => KINDS[kind]?.said ?? kind;

/** The buttons for what may have happened to a unit as it is now. */
export function tellActs(found, { me, fleet, after }) {
  if (!may(me, "operate") || found.life !== found.lives.at(-1).life) return null;
  const running = found.state === "running";
  const known =
    running &&
    (found.history_from !== null ||
      found.life_events.some((one) => one.kind === "installed" && one.life === found.life && !one.withdrawn));
  const kinds = running ? ["failed", "removed", "overhauled", ...(known ? [] : ["installed"])] : ["installed"];
  return kinds.map((kind) =>
    button(`${KINDS[kind].verb}…`, () => tell(kind, found, { fleet, after }), { "data-key": `tell-${kind}` }),
  );
}

function tell(kind, found, { fleet, after }) {
  const { title, text, verb } = KINDS[kind];
  // Chosen once, so that telling again after a cut connection is telling once.
  const id = `page-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  ask({
    title: title(found.unit),
    text: text(fleet),
    verb,
    danger: kind === "failed",
    after,
    fields: [
      { name: "time", label: "When (your time)", kind: "datetime-local", hint: "Empty: now, behind its newest reading." },
      ...(kind === "installed"
        ? [
            {
              name: "age",
              label: `Its age then, in ${plural(fleet.step)}`,
              hint: "Empty: it was new. “unknown” if nobody knows.",
              attributes: { pattern: "\\d{1,9}|unknown", title: "A whole number, or: unknown" },
            },
          ]
        : []),
      { name: "note", label: "Note (others will read it)", kind: "textarea", attributes: { maxlength: 2000 } },
    ],
    run: async (values) => {
      const event = { kind, id, note: values.note };
      if (values.time) event.time = new Date(values.time).toISOString();
      if (values.age) event.age = values.age === "unknown" ? "unknown" : Number(values.age);
      await post(of(fleet.name, "units", found.unit, "events"), event);
      return `${found.unit}: ${kindWords(kind)}. It can be taken back below.`;
    },
  });
}

/** What has happened, newest last, each with a way to take it back. */
export function lifeEvents(found, { me, fleet, after }) {
  if (!found.life_events.length)
    return empty("Nothing was told yet", `Installations, failures, removals and overhauls of this ${fleet.unit} stand here.`);
  const several = found.lives.length > 1;
  const columns = [
    { name: "When", class: "nowrap", cell: (row) => moment(row.time, { seconds: false }) },
    {
      name: "What",
      cell: (row) => [
        kindWords(row.kind),
        row.withdrawn && h("span", { class: "tags" }, tag("taken back", "warn", row.withdrawn.reason)),
      ],
    },
    ...(several ? [{ name: "Life", class: "num wide-only", cell: (row) => row.life ?? "–" }] : []),
    { name: "Note", cell: (row) => [row.note, row.withdrawn && h("p", { class: "note" }, backWords(row.withdrawn))] },
    { name: "By", class: "wide-only", cell: (row) => row.who },
    ...(may(me, "operate")
      ? [
          {
            name: "",
            head: h("span", { class: "visually-hidden" }, "Acts"),
            cell: (row) =>
              !row.withdrawn &&
              button("Take back…", () => takeBack(row, found, { fleet, after }), {
                class: "small",
                "aria-label": `Take back: ${kindWords(row.kind)}`,
                "data-key": `back-${row.id}`,
              }),
          },
        ]
      : []),
  ];
  return table("What happened to it", columns, found.life_events, {
    rowClass: (row) => (row.withdrawn ? "withdrawn" : null),
  });
}

/** Who took an event back and why, and what had learnt from the run that it ended. */
function backWords({ who, reason, run, learnt_from: learnt }) {
  const versions = learnt?.versions ?? [];
  return [
    `Taken back by ${who}${reason ? `: ${reason}` : ""}.`,
    run && (versions.length ? ` Learnt from it: version ${versions.join(", ")}.` : " No version has learnt from it."),
  ]
    .filter(Boolean)
    .join("");
}

function takeBack(row, found, { fleet, after }) {
  ask({
    title: `Was ${found.unit} not ${kindWords(row.kind)}?`,
    verb: "Take it back",
    danger: true,
    after,
    text:
      row.kind === "installed"
        ? "Its age is unknown again."
        : "Its life goes on. The run that was archived is taken back, and no training learns from it any more.",
    fields: [{ name: "reason", label: "Why (others will read it)", kind: "textarea", required: true }],
    run: async (values) => {
      const said = await remove(of(fleet.name, "units", found.unit, "events", row.id), values);
      return said.withdrawn ? backWords(said.withdrawn) : "It is taken back.";
    },
  });
}

const ARCHIVE = {
  waiting: ["to be archived", "info"],
  labels: ["archived", "good"],
  archived: ["archived", "good"],
  refused: ["refused", "bad"],
};
const STATES = { running: "in service", failed: "failed", removed: "removed", overhauled: "ended by an overhaul" };

export const stateWords = (state) => STATES[state] ?? state;

/** The lives of a unit, and what became of their runs. */
export function lives(found, fleet) {
  const here = of(fleet.name, "units", found.unit);
  const columns = [
    {
      name: "Life",
      cell: (row) =>
        row.life === found.life ? `${row.life} (shown)` : h("a", { href: `${here}?life=${row.life}` }, `${row.life}`),
    },
    { name: "State", cell: (row) => stateWords(row.state) },
    { name: "Ended", class: "nowrap wide-only", cell: (row) => moment(row.closed, { seconds: false }) },
    { name: "Run", cell: (row) => row.run ?? "–" },
    {
      name: "Archive",
      cell: (row) => [
        row.archive ? tag(...(ARCHIVE[row.archive] ?? [row.archive, "plain"])) : "–",
        row.note && h("p", { class: "note" }, row.note),
      ],
    },
  ];
  return table("Lives", columns, found.lives);
}

/** How the readings came. */
export function rowsCame({ quality }, { me, fleet, unit, after }) {
  const entries = [
    ["Readings", quality.rows],
    ["from history files", quality.backfilled],
    ["too late for their prediction", quality.late],
    ["after its life had ended", quality.after_end],
    ["contradicting another one", quality.contradicting],
  ].filter(([, value], index) => index === 0 || value > 0);
  const split = () =>
    ask({
      title: `Are two ${plural(fleet.unit)} called ${unit}?`,
      verb: "Make two of it",
      after,
      text: "Readings that contradict those that were there first go to another name. Tell whoever sends them to use it from now on.",
      fields: [{ name: "name", label: "Name of the other one", required: true, attributes: { maxlength: 128 } }],
      run: async ({ name }) => {
        const said = await post(of(fleet.name, "units", unit, "split"), { name });
        return `${said.rows} readings went to ${name}.`;
      },
    });
  return [
    h("dl", { class: "pairs" }, entries.map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
    quality.contradicting > 0 &&
      h(
        "div",
        { class: "acts" },
        h("p", { class: "note" }, `Several readings came for one time. Perhaps two ${plural(fleet.unit)} send under this name.`),
        may(me, "operate") && h("div", {}, button(`Make two ${plural(fleet.unit)} of it…`, split, { "data-key": "split" })),
      ),
  ];
}
