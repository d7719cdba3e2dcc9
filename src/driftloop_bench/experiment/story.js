// Tells one run's story, from what stands in the page as its data.

import { COLOURS, chart } from "./chart.js";
import { figure, fill, h, panel, table, tag } from "./dom.js";
import { count, duration, number, percent, plural } from "./format.js";
import { MARKS, eventWords } from "./words.js";

const run = JSON.parse(document.getElementById("run").textContent);
const { metrics, fleet } = run;
const steps = plural(fleet.step);
const inSteps = (value) => (value === null || value === undefined ? "–" : `${number(value, 1)} ${steps}`);
const marks = run.marks
  .filter((mark) => mark.at !== null)
  .map((mark) => ({ name: mark.mark.replace("_", "·"), at: mark.at }));
/** Without a reference model nobody can say T5; what the watch says is then all there is. */
const asTheWatchSees = !metrics.recovered && metrics.watch_no_drift !== null && run.reference === null;
const good = metrics.recovered || asTheWatchSees;
const ends = [...run.errors, ...run.drift].flatMap((curve) => [curve.at[0], curve.at.at(-1)]);
const range = ends.length ? [Math.min(...ends), Math.max(...ends)] : undefined;
const versions = [...new Set([...run.drift, ...run.errors].map((line) => line.version))];
const colourOf = (version) => COLOURS[Math.max(0, versions.indexOf(version)) % COLOURS.length];

/** Curves that have times of their own, over one axis of all times. */
function together(curves) {
  const times = [...new Set(curves.flatMap((curve) => curve.at))].sort((a, b) => a - b);
  const index = new Map(times.map((time, position) => [time, position]));
  const lines = curves.map((curve) => {
    const values = new Array(times.length).fill(null);
    curve.at.forEach((time, position) => {
      values[index.get(time)] = curve.values[position];
    });
    return { name: curve.name, values, colour: curve.colour, gaps: true };
  });
  return { x: { name: "seconds after T0", label: "seconds after T0:", values: times, digits: 1, range }, lines };
}

/** What came of first aid, where it was given. */
const firstAid =
  metrics.first_aid_s === null
    ? ""
    : ` Until there were labels, first aid helped out ${duration(metrics.first_aid_s)} after the alarm: an error of ${inSteps(metrics.rmse_first_aid)} instead of ${inSteps(metrics.rmse_drifted)}.`;

function told() {
  if (metrics.recovered && firstAid)
    return `The fleet changed, and the platform recovered by itself: it noticed after ${duration(metrics.detection_s)}.${firstAid} ${typeof metrics.labels === "number" ? `Labels came ${duration(metrics.labels)} after the change` : "Labels came"}; the retraining took ${duration(metrics.retrain_s)}, and all was well again ${duration(metrics.total_s)} after the change.`;
  if (metrics.recovered)
    return `The fleet changed, and ${duration(metrics.total_s)} later the platform had recovered by itself: it noticed after ${duration(metrics.detection_s)}, trained for ${duration(metrics.retrain_s)}, and the first answer of the new model came ${duration(metrics.core_recovery_s)} after the alarm.`;
  if (asTheWatchSees)
    return `The fleet changed; the alarm came after ${duration(metrics.detection_s)}, and the first answer of the new model ${duration(metrics.core_recovery_s)} after that.${firstAid} The watch sees no drift under it. Whether its error is as good as can be (T5) was not tried: ${run.marks.at(-1).missing}.`;
  const missing = run.marks.find((mark) => mark.at === null);
  return `The fleet changed; the platform came as far as ${run.marks.filter((mark) => mark.at !== null).at(-1)?.mark ?? "nowhere"}.${missing?.missing ? ` ${missing.mark}: ${missing.missing}.` : ""}${firstAid}`;
}

function timeline() {
  return h(
    "ol",
    { class: "timeline" },
    run.marks.map((mark) =>
      h(
        "li",
        { class: mark.at === null ? "open" : "done" },
        h("span", { class: "node", "aria-hidden": "true" }),
        h("span", { class: "mark" }, mark.mark.replace("_", "·")),
        h("strong", {}, MARKS[mark.mark][0]),
        h("span", {}, mark.at === null ? "not reached" : h("span", { title: mark.time }, `+${duration(mark.at)}`)),
        h("span", { class: "note" }, mark.missing ?? mark.meaning),
      ),
    ),
  );
}

function driftChart() {
  const curves = run.drift.map((line) => ({ ...line, name: `model ${line.version}`, colour: colourOf(line.version) }));
  if (!curves.length) return h("p", { class: "fine" }, "The watch said nothing.");
  return chart({
    ...together(curves),
    y: { name: "drift (share of its limit)", digits: 2, log: true },
    limits: [{ name: "alarm", value: 1 }],
    marks,
    together: "run",
    summary: "How far the fleet’s traffic was from what each model learnt; above 1 the alarm goes off.",
  });
}

function errorChart() {
  const seen = new Set();
  const curves = run.errors.map((line) => {
    const again = seen.has(line.version);
    seen.add(line.version);
    return {
      ...line,
      name: `model ${line.version}${again ? ", after the change" : ""}`,
      colour: colourOf(line.version),
    };
  });
  if (!curves.length) return h("p", { class: "fine" }, "Too few answers.");
  const limits = run.reference
    ? [
        {
          name: `a model trained from scratch: ${number(run.reference.rmse, 1)}`,
          value: run.reference.rmse,
          colour: "--good",
        },
      ]
    : [];
  return chart({
    ...together(curves),
    y: { name: `error, RMSE (${steps})`, from: 0, unit: steps, digits: 1 },
    limits,
    marks,
    together: "run",
    summary: `The error of the answers over the newest ${curves[0].newest} answers: ${inSteps(metrics.rmse_healthy)} before the change, ${inSteps(metrics.rmse_drifted)} after it, ${metrics.rmse_first_aid === null ? "" : `${inSteps(metrics.rmse_first_aid)} with first aid, `}${inSteps(metrics.rmse_recovered)} by the new model.`,
  });
}

function answersChart() {
  const lines = Object.entries(run.answers.by).map(([version, values]) => ({
    name: version === "failed" ? "not answered" : `model ${version}`,
    values,
    step: true,
    colour: version === "failed" ? "--bad" : colourOf(version),
  }));
  if (!lines.length) return h("p", { class: "fine" }, "Nothing was answered.");
  return chart({
    x: { name: "seconds after T0", label: "seconds after T0:", values: run.answers.at, range },
    y: { name: "answers a second", from: 0, digits: 0 },
    lines,
    marks,
    together: "run",
    height: 180,
    summary: `Answers a second by model; ${number(metrics.requests_failed)} of ${number(metrics.requests_total)} requests were not answered.`,
  });
}

function events() {
  return h(
    "ol",
    { class: "events", tabindex: "0", "aria-label": "What happened" },
    run.events.map((event) => {
      const [words, kind] = eventWords(event.kind);
      return h(
        "li",
        { class: "event" },
        h("span", { class: "when num", title: event.time }, `${event.at < 0 ? "" : "+"}${number(event.at, 1)} s`),
        h(
          "div",
          { class: "what" },
          h(
            "p",
            { class: "event-head" },
            tag(words, kind),
            h(
              "span",
              { class: "note" },
              [event.model_version && `model ${event.model_version}`, event.step].filter(Boolean).join(" · "),
            ),
          ),
          event.reason && h("p", { class: "note reason" }, event.reason),
        ),
      );
    }),
  );
}

const rows = [
  ["Error before the change", inSteps(metrics.rmse_healthy), `model ${metrics.champion_version} on its own fleet`],
  ["Error after the change", inSteps(metrics.rmse_drifted), "the same model, until it was replaced"],
  ...(metrics.rmse_first_aid === null
    ? []
    : [
        [
          "Error under first aid",
          inSteps(metrics.rmse_first_aid),
          `its range held the truth in ${percent(metrics.coverage_first_aid)} of cases`,
        ],
      ]),
  [
    "Error after recovery",
    inSteps(metrics.rmse_recovered),
    `model ${metrics.challenger_version ?? "–"}, on ${number(metrics.answers_after_t4)} answers of ${count(metrics.engines_after_t4, fleet.unit)}`,
  ],
  ["Error of a model trained from scratch", inSteps(metrics.rmse_reference), "on the same requests, after the run"],
  [
    "Ratio of the two, at most (95 %)",
    metrics.ratio_upper_bound === null ? "–" : number(metrics.ratio_upper_bound, 3),
    `${metrics.ratio_limit} is allowed`,
  ],
  [
    "Requests",
    number(metrics.requests_total),
    `${number(metrics.requests_failed)} failed, ${number(metrics.rate_per_s)} a second`,
  ],
  [
    "Latency, median / slowest 1 %",
    `${number(metrics.latency_ms.p50, 1)} / ${number(metrics.latency_ms.p99, 1)} ms`,
    `${metrics.machine.cores} cores, ${metrics.machine.cpu}`,
  ],
];

fill(
  document.getElementById("main"),
  h(
    "div",
    { class: "title" },
    h("h1", {}, `How ${fleet.name} recovered`),
    h(
      "p",
      {},
      `Healthy traffic of ${run.healthy}, then: ${run.change}. Data: ${metrics.data_source}. Seed ${metrics.seed}.`,
    ),
  ),
  metrics.note && h("p", { class: "warning" }, metrics.note),
  h(
    "section",
    { class: good ? "panel outcome" : "panel outcome bad", "aria-label": "Outcome" },
    h("h2", {}, metrics.recovered ? "Recovered" : asTheWatchSees ? "Recovered, as the watch sees it" : "Not recovered"),
    h("p", {}, told()),
    h(
      "dl",
      { class: "figures small" },
      figure("Noticed after", duration(metrics.detection_s)),
      figure("Alarm to new model", duration(metrics.core_recovery_s)),
      figure(
        "Error",
        [metrics.rmse_healthy, metrics.rmse_drifted, ...(firstAid ? [metrics.rmse_first_aid] : []), metrics.rmse_recovered]
          .map((value) => number(value, 1))
          .join(" → "),
        steps,
      ),
      figure("Requests failed", `${number(metrics.requests_failed)} of ${number(metrics.requests_total)}`),
    ),
  ),
  panel("From T0 to T5", timeline()),
  panel("What the watch saw", driftChart(), {
    note: "the distance of the fleet’s traffic from what the model in service learnt, as a share of the limit",
  }),
  panel("How wrong the answers were", errorChart(), {
    note: "against the true remaining life, which the experiment knows",
  }),
  panel("Who answered", answersChart()),
  panel(
    "Figures",
    table(
      "Figures of the run",
      [
        { name: "What", cell: (row) => row[0] },
        { name: "Value", class: "num", cell: (row) => row[1] },
        { name: "Where from", cell: (row) => row[2] },
      ],
      rows,
    ),
  ),
  panel("What happened", events(), { note: "seconds after T0" }),
);
