// One unit: how its expected life went, and each sensor against what is usual under its operating conditions.

import { notAllowed } from "../act.js";
import { get, of } from "../api.js";
import { chart } from "../chart.js";
import { button, figure, fill, h, panel, tag } from "../dom.js";
import { drivers } from "../drivers.js";
import { count, moment, number, plural } from "../format.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";
import { lifeEvents, lives, rowsCame, stateWords, tellActs } from "../unit_acts.js";
import { RUL, flagWords, tellingFlags, whatIs } from "../words.js";

page(({ me, fleet, unit, main, live }) => {
  const life = new URLSearchParams(location.search).get("life");
  document.title = `${unit} · ${fleet.name} · driftloop`;
  const back = h("a", { href: of(fleet.name) }, `All ${plural(fleet.unit)}`);
  const below = h("div", { class: "part" });
  const shown = part(
    "the unit",
    () => get(of(fleet.name, "units", unit), { life }),
    (found) => {
      fill(below, readings(found, fleet));
      return draw(found, { me, fleet, unit, after: () => shown.refresh() });
    },
    { every: 10_000 },
  );
  // Of an earlier life nothing is predicted any more.
  const why =
    life === null &&
    part(
      "what drives it",
      () => get(of(fleet.name, "drivers", unit)).catch(unlessUnknown),
      (found) => found && panel("What drives this prediction", h("div", {}, drivers(found, fleet)), { wide: true }),
      { every: 30_000 },
    );
  const title = h("div", { class: "title" }, h("p", { class: "crumb" }, back), h("h1", {}, unit));
  main.append(title, shown.node, ...(why ? [why.node] : []), below);
  const again = settled(shown.refresh);
  live({ event: (event) => event.event !== "verdict" && again(), resumed: (anew) => anew && again() });
});

/** Rows that no server remembers any more are explained by nobody. */
function unlessUnknown(error) {
  if (error.status === 404) return null;
  throw error;
}

function draw(found, context) {
  const { fleet } = context;
  const rows = thisLife(found.predictions);
  const newest = rows.at(-1);
  const kept = found.life_events !== undefined;
  return [
    found.problem && h("p", { class: "not-allowed", role: "status" }, found.problem),
    h(
      "dl",
      { class: "figures" },
      figure("Remaining life, at least", ...remaining(found, newest, fleet)),
      kept && figure("State", ...stateOf(found)),
      figure("Age", ...ageOf(found, newest, fleet)),
      figure("Last seen", moment(found.last_seen, { relative: true })),
      figure("Model", found.version ?? "–"),
      figure(
        "Flags",
        found.flags.length ? tellingFlags(found.flags).map((flag) => tag(...flagWords(flag))) : newest ? tag("none", "good") : "–",
      ),
    ),
    h("p", { class: "explain" }, RUL(fleet)),
    panel(
      "Expected life over time",
      rows.length
        ? predictions(rows, fleet)
        : empty("No prediction yet", `Predictions for this ${fleet.unit} appear as its readings arrive.`),
      { wide: true },
    ),
    kept &&
      panel("What happened to it", h("div", {}, lifeEvents(found, context), notAllowed(context.me, "operate")), {
        wide: true,
        actions: tellActs(found, context),
      }),
    kept &&
      (found.lives.length > 1 || found.lives[0]?.run) &&
      panel("Its lives", lives(found, fleet), { note: "each that has ended is archived as a run" }),
    kept && panel("How its readings came", h("div", {}, rowsCame(found, context))),
  ];
}

function readings(found, fleet) {
  return panel("Sensors", sensors(found, fleet), {
    wide: true,
    note: "The shaded band is the mean over whole lives that the model learnt from, under the same operating conditions, with two standard deviations to either side. Sensors that leave it come first. Where the conditions change all the time, a reading is shown by its place in the band, −1 to 1.",
  });
}

function remaining(found, newest, fleet) {
  if (!newest) return ["–"];
  const behind = lastStep(found, newest) - newest.step;
  const then = behind > 0 && `as of ${fleet.step} ${number(newest.step)}: no answer yet to the newest ${count(behind, fleet.step)}`;
  if ((found.state ?? "running") !== "running") {
    const when = behind > 0 ? `${count(behind, fleet.step)} before its end` : "at its end";
    return ["–", `${when} ${number(newest.low)} to ${count(newest.high, fleet.step)} were predicted`];
  }
  return [
    count(newest.low, fleet.step),
    [`expected ${number(newest.rul)}, up to ${number(newest.high)}`, then].filter(Boolean).join("; "),
  ];
}

/** The step of the newest reading: one that has no answer, or none yet, makes a unit older all the same. */
function lastStep(found, newest) {
  // Where nobody keeps rows and no answer has a step, steps are but the places of readings.
  const read = newest || found.life_events ? found.steps.at(-1) : null;
  return Math.max(newest?.step ?? -Infinity, read ?? -Infinity);
}

function stateOf({ state, life, lives }) {
  const kind = { running: "good", failed: "bad" }[state] ?? "plain";
  return [tag(stateWords(state), kind), lives.length > 1 && `life ${life} of ${lives.length}`];
}

/** How old it is; where nobody has said, how many of its steps were seen. */
function ageOf(found, newest, fleet) {
  const last = lastStep(found, newest);
  if (last === -Infinity) return ["–"];
  if (found.history_from === null) return ["not known", `${count(last, fleet.step)} by the count of its readings`];
  const from = found.history_from > 1 && `readings since ${fleet.step} ${number(found.history_from)}`;
  return [count(last, fleet.step), from];
}

/** The answers since the unit was last installed or overhauled: from where its age began anew. */
function thisLife(predictions) {
  const known = predictions.filter((row) => typeof row.rul === "number" && typeof row.step === "number");
  const start = known.findLastIndex((row, index) => index > 0 && row.step <= known[index - 1].step);
  return known.slice(Math.max(0, start));
}

function predictions(rows, fleet) {
  const newest = rows.at(-1);
  const ended = rows.some((row) => typeof row.true_rul === "number");
  return chart({
    x: { name: `age (${plural(fleet.step)})`, label: fleet.step, whole: true, values: rows.map((row) => row.step) },
    y: {
      name: `remaining life (${plural(fleet.step)})`,
      from: 0,
      to: fleet.cap ?? undefined,
      digits: 0,
      unit: plural(fleet.step),
    },
    lines: [
      { name: "expected", values: rows.map((row) => row.rul) },
      ...(ended ? [{ name: "what was really left", values: rows.map((row) => row.true_rul ?? null), dash: [6, 4] }] : []),
    ],
    band: { name: "range (nine cases of ten)", low: rows.map((row) => row.low), high: rows.map((row) => row.high) },
    height: 300,
    summary: `Expected remaining life at ${rows.length} ages; at ${fleet.step} ${newest.step} it is ${number(newest.rul)}, between ${number(newest.low)} and ${number(newest.high)} ${plural(fleet.step)}.`,
  });
}

function sensors(found, fleet) {
  if (found.life_events && !found.steps.length)
    return empty("No readings yet", `They appear as soon as the first one of this ${fleet.unit} has come.`);
  if (!found.sensors.length)
    return empty(
      "No readings kept",
      `The server keeps the newest readings of the ${plural(fleet.unit)} that it saw last; this one is not among them.`,
    );
  const judged = found.sensors.map((sensor) => ({ ...sensor, outside: outside(sensor) }));
  judged.sort((a, b) => (b.outside ?? -1) - (a.outside ?? -1));
  const drawn = h("div", { class: "multiples" });
  const more = h("div", { class: "more" });
  const show = () => {
    drawn.append(...judged.slice(drawn.childElementCount, charts).map((sensor) => small(sensor, found, fleet)));
    const left = judged.length - drawn.childElementCount;
    fill(more, left > 0 && button(`Show ${Math.min(left, CHARTS)} more of ${number(left)} sensors`, grow, { "data-key": "more" }));
  };
  const grow = () => {
    charts += CHARTS;
    show();
  };
  show();
  return [drawn, more];
}

/** Charts of sensors that are drawn at once: hundreds would keep the browser busy with every refresh. */
const CHARTS = 24;
let charts = CHARTS;

/** The share of readings outside the usual band; null where no band is known. */
function outside({ values, low, high }) {
  if (!low || !high) return null;
  const known = values
    .map((value, index) => [value, low[index], high[index]])
    .filter((row) => row.every((each) => each !== null));
  return known.length
    ? known.filter(([value, least, most]) => value < least || value > most).length / known.length
    : null;
}

function small(sensor, found, fleet) {
  const name = sensor.unit ? `${sensor.name} (${sensor.unit})` : sensor.name;
  const says =
    sensor.outside === null
      ? "usual band unknown"
      : sensor.outside === 0
        ? "within its band"
        : `${number(100 * sensor.outside)} % of readings outside`;
  const kind =
    sensor.outside === null ? "plain" : sensor.outside > 0.2 ? "bad" : sensor.outside > 0.1 ? "warn" : "good";
  const moved = bandMoves(sensor);
  const shown = moved ? relative(sensor) : sensor;
  return h(
    "section",
    { class: "multiple", "aria-label": name },
    h("h3", {}, moved ? `${sensor.name}, in its band` : name),
    tag(says, kind),
    h("p", { class: "note what" }, whatIs(sensor.name, fleet)),
    chart({
      compact: true,
      summary: `${name} over the newest ${count(found.steps.length, fleet.step)}: ${says}.`,
      x: { name: plural(fleet.step), label: fleet.step, whole: true, values: found.steps },
      y: { name: sensor.unit ?? "", digits: 2, unit: moved ? "of the band" : sensor.unit },
      lines: [{ name: sensor.name, values: shown.values }],
      band: shown.low && shown.high ? { name: "usual", low: shown.low, high: shown.high, colour: "--healthy" } : null,
    }),
  );
}

const BAND_JUMPS = 2;

/** Whether the band moves by more than its width, as it does where the operating conditions change all the time. */
function bandMoves({ low, high }) {
  if (!low || !high) return false;
  const middles = low.map((value, index) => (value + high[index]) / 2);
  const widths = low.map((value, index) => high[index] - value).sort((a, b) => a - b);
  return Math.max(...middles) - Math.min(...middles) > BAND_JUMPS * widths[Math.floor(widths.length / 2)];
}

/** Readings by where they lie in the band of their own conditions: -1 is its lower end, 1 its upper end. */
function relative({ values, low, high }) {
  const known = (index) =>
    typeof values[index] === "number" && typeof low[index] === "number" && high[index] > low[index];
  const ends = (end) => low.map((value, index) => (typeof value === "number" && high[index] > value ? end : null));
  return {
    values: values.map((value, index) =>
      known(index) ? (2 * (value - low[index])) / (high[index] - low[index]) - 1 : null,
    ),
    low: ends(-1),
    high: ends(1),
  };
}
