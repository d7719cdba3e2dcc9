// The loop: where it is, what it waits for, what happened when, what drifts, how wrong the answers are.

import { get, of } from "../api.js";
import { notAllowed } from "../act.js";
import { figure, h, pair, panel, tag } from "../dom.js";
import { capital, count, duration, moment, number, percent, plural } from "../format.js";
import { acts, causeActs, schedules } from "../loop_acts.js";
import { timeline } from "../marks.js";
import { page } from "../shell.js";
import { empty, part, settled, stale } from "../states.js";
import { STATES, STEPS, STEPS_OF_LOOP, causeWords, findings, stateName, verdictWords, whatIs } from "../words.js";

page(({ me, fleet, main, live }) => {
  const fetchLoop = () => get(of(fleet.name, "loop"));
  const after = () => [loop, drift, plan].forEach((each) => each.refresh());
  const loop = part("the loop", fetchLoop, (found) => drawLoop(found, { me, fleet, after }), { every: 4000 });
  const plan = part(
    "schedules",
    () => get(of(fleet.name, "schedules")),
    (found) => schedules(found.schedules, { me, fleet, after }),
    { every: 15_000 },
  );
  const drift = part(
    "the verdict",
    () => get(of(fleet.name, "verdict")),
    (found) => drawDrift(found, fleet),
    { every: 4000 },
  );
  main.append(
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Loop"),
      h("p", {}, "From the first sign of change to a model that fits again, by itself."),
    ),
    loop.node,
    panel("Drift, reading by reading", drift.node, {
      wide: true,
      note: "how far each reading is from what the model learnt, against the limit at which the alarm goes off",
    }),
    panel("Schedules", plan.node, { wide: true, note: "retrainings and checks at set times" }),
  );
  const again = settled(after);
  const look = settled(drift.refresh, 500);
  live({
    event: (event) => (event.event === "verdict" ? look() : again()),
    state: again,
    resumed: (anew) => anew && again(),
  });
});

function drawLoop(loop, shared) {
  const { me, fleet, after } = shared;
  return [
    machine(loop),
    loop.approval && approval(loop.approval, fleet),
    h(
      "div",
      { class: "columns" },
      panel("Timeline of the newest recovery", timeline(loop.marks), { wide: true, note: "each mark as it happens" }),
      panel("How wrong the answers are", error(loop, fleet)),
      panel("Retraining", progress(loop)),
      panel("Why", causes(loop, shared)),
      panel("Act", notAllowed(me, "operate") ?? acts({ fleet, after })),
    ),
  ];
}

const stepOf = (loop) => loop.progress?.step ?? loop.attempt?.step ?? null;

/** The states in their order, the present one marked, and in words what it waits for. */
function machine(loop) {
  const here = loop.state === "running" && stepOf(loop) === "shadow" ? "shadow" : loop.state;
  const steps = STEPS_OF_LOOP.filter(
    (state) => state !== "awaiting_approval" || loop.promotion === "approve" || here === state,
  );
  const at = steps.indexOf(here);
  const items = steps.map((state, index) =>
    h(
      "li",
      {
        class: index === at ? "here" : index > 0 && index < at ? "past" : "",
        "aria-current": index === at ? "step" : null,
      },
      h("span", { class: "node", "aria-hidden": "true" }),
      h("span", { class: "name" }, stateName(state)),
    ),
  );
  const [name, usual] = STATES[here] ?? [stateName(here), ""];
  const meaning =
    here === "idle" && loop.causes.length ? "An alarm is on; all that can be done about it now has been done." : usual;
  return h(
    "section",
    { class: `panel wide machine ${here === "idle" ? "calm" : "busy"}`, "aria-label": "State of the loop" },
    h(
      "div",
      { class: "now" },
      h("h2", {}, name),
      h("p", {}, loop.waits_for ? h("strong", {}, asSentence(loop.waits_for)) : meaning),
      h(
        "p",
        { class: "note" },
        loop.since && ["since ", moment(loop.since), " · "],
        loop.promotion === "approve"
          ? "a person approves each new model"
          : "new models go into service by themselves when they pass",
      ),
    ),
    h("ol", { class: "states" }, items),
    h("p", { class: "back note", "aria-hidden": "true" }, h("span", {}, "then watching again")),
  );
}

const asSentence = (text) => `${capital(text)}${/[.!?]$/.test(text) ? "" : "."}`;

function approval(waiting, fleet) {
  return h(
    "section",
    { class: "panel wide call", "aria-label": "A person must decide" },
    h(
      "div",
      { class: "grow" },
      h("h2", {}, `Model ${waiting.version} waits for a person`),
      h("p", {}, findings(waiting.reasons).map(asSentence).join(" ")),
      h(
        "p",
        { class: "note" },
        "since ",
        moment(waiting.since),
        waiting.deadline ? [" · to be decided by ", moment(waiting.deadline)] : " · no deadline",
      ),
    ),
    h("a", { class: "button primary", href: of(fleet.name, "models") }, "Look and decide"),
  );
}

function error(loop, fleet) {
  const steps = plural(fleet.step);
  const { error: live, estimate } = loop;
  if (!live && !estimate)
    return empty(
      "Not known yet",
      `It is known once units that were in service have run to their end, and estimated once there is traffic.`,
    );
  return h(
    "dl",
    { class: "figures small" },
    live &&
      figure(
        "Measured error (RMSE)",
        `${number(live.rmse, 1)} ${steps}`,
        `over ${count(live.units, fleet.unit)} whose end is known`,
      ),
    live && figure("Range held the truth", percent(live.coverage), "nine of ten is meant"),
    estimate &&
      figure(
        "Estimated now",
        estimate.known === false ? "unknown" : `${number(estimate.rmse, 1)} ${steps}`,
        estimate.known === false
          ? (estimate.why ?? "the traffic is unlike anything the model was judged on")
          : `between ${number(estimate.low, 1)} and ${number(estimate.high, 1)}, without knowing the ends yet`,
      ),
  );
}

function progress(loop) {
  const now = loop.progress;
  const attempt = loop.attempt;
  if (!now && !attempt) return h("p", { class: "fine" }, "No retraining is under way.");
  const mode = {
    full: "from scratch",
    warm: "on from the model in service",
    warm_start: "on from the model in service",
  }[attempt?.mode];
  return [
    attempt &&
      h(
        "dl",
        { class: "pairs" },
        pair("For", causeWords(attempt.cause)),
        mode && pair("Training", mode),
        loop.state === "running" && stepOf(loop) && pair("Now", STEPS[stepOf(loop)] ?? stepOf(loop)),
        attempt.challenger && pair("New model", `version ${attempt.challenger}`),
        attempt.failures ? pair("Failed tries", number(attempt.failures)) : null,
        attempt.started_at && pair("Started", moment(attempt.started_at)),
      ),
    now &&
      h(
        "div",
        { class: "progress" },
        h(
          "div",
          { class: "progress-head" },
          h("strong", {}, STEPS[now.step] ?? now.step),
          now.of ? h("span", { class: "num" }, `${number(now.done)} of ${number(now.of)}`) : null,
        ),
        now.of
          ? h("progress", { max: now.of, value: now.done, "aria-label": "Progress of the step" })
          : h("progress", { "aria-label": "Progress of the step" }),
        h(
          "p",
          { class: "note" },
          [
            now.loss !== null && now.loss !== undefined ? `loss ${number(now.loss, 4)}` : null,
            now.seconds_left !== null && now.seconds_left !== undefined
              ? `about ${duration(now.seconds_left)} left`
              : null,
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
  ];
}

function causes(loop, shared) {
  if (!loop.causes.length) return h("p", { class: "fine" }, "No alarm is on.");
  const muted = Array.isArray(loop.muted) ? loop.muted : [];
  const causes = loop.causes.map((cause) => ({ ...muted.find((each) => each.cause === cause.cause), ...cause }));
  return h(
    "ul",
    { class: "plain-list" },
    causes.map((cause) =>
      h(
        "li",
        { class: "cause" },
        h(
          "div",
          { class: "grow" },
          h("strong", {}, causeWords(cause.cause)),
          h(
            "p",
            { class: "note" },
            "since ",
            moment(cause.since),
            cause.muted_until && [
              " · muted until ",
              moment(cause.muted_until),
              cause.who ? ` by ${cause.who}` : "",
              cause.reason ? ` (${cause.reason})` : "",
            ],
          ),
        ),
        causeActs(cause, shared),
      ),
    ),
  );
}

function drawDrift(verdict, fleet) {
  const [words, kind] = verdictWords(verdict.verdict);
  const promised = verdict.false_alarms?.requests_per_false_alarm;
  const head = h(
    "p",
    { class: "lead" },
    "The fleet’s traffic ",
    tag(words, kind),
    verdict.requests
      ? ` over the newest ${count(verdict.requests, "request")}`
      : "",
    verdict.since ? [", since ", moment(verdict.since)] : null,
    promised ? ` · at most one false alarm in ${number(promised)} requests is expected` : "",
    ".",
  );
  const faults = (verdict.sensor_faults ?? []).map((fault) =>
    h("p", {}, tag("sensor fault", "bad"), ` ${fault.sensor}: ${fault.what}`),
  );
  const old =
    verdict.silent && stale("The drift watch has gone silent", verdict.as_of, "no alarm goes off until it is back");
  if (!verdict.features.length)
    return [old, head, faults, empty("No figures yet", "They appear when the watch has seen enough requests.")];
  const features = [...verdict.features].sort((a, b) => share(b) - share(a));
  const most = Math.max(2, ...features.map(share));
  return h(
    "div",
    {},
    old,
    head,
    faults,
    h(
      "p",
      { class: "legend" },
      h("span", {}, h("i", { class: "swatch dashed-up" }), "limit"),
      h("span", {}, h("i", { class: "swatch over" }), "beyond it"),
      h("span", {}, tag("to blame", "bad"), " the readings that explain the change"),
      h("span", {}, "bars: logarithmic; figures: how much of the limit is reached"),
    ),
    h(
      "ol",
      { class: "bars", "aria-label": "Drift of each reading" },
      features.map((feature) => bar(feature, most, fleet)),
    ),
  );
}

/** How far a reading is from what was learnt, as a share of its limit. */
const share = (feature) => feature.score ?? feature.psi / feature.threshold;

function bar(feature, most, fleet) {
  // By its logarithm: what is a hundred times beyond the limit must not squeeze the rest to nothing.
  const width = (value) => `${(100 * Math.log1p(value)) / Math.log1p(most)}%`;
  return h(
    "li",
    { class: feature.drifted ? "bar drifted" : "bar" },
    h(
      "span",
      { class: "name" },
      h("span", {}, feature.name, h("span", { class: "block note" }, whatIs(feature.name, fleet))),
      feature.blamed && tag("to blame", "bad"),
    ),
    h(
      "span",
      { class: "track", "aria-hidden": "true" },
      h("i", { class: "value", style: { width: width(share(feature)) } }),
      h("i", { class: "limit", style: { left: width(1) } }),
    ),
    h(
      "span",
      { class: "num", title: `population stability index (PSI) ${number(feature.psi, 2)}, its limit ${number(feature.threshold, 2)}` },
      percent(share(feature)),
      h("span", { class: "visually-hidden" }, ` of its limit${feature.drifted ? ", drifted" : ""}`),
    ),
  );
}
