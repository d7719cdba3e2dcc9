// What the platform's own words mean to somebody who plans maintenance.

import { capital, one, plural } from "./format.js";

/** Remaining useful life, explained once to a page. */
export const RUL = (fleet) =>
  `Remaining useful life (RUL) is how many more ${plural(fleet.step)} ${one(fleet.unit)} is expected to run before it must be replaced. ` +
  `The range beside it is where the true value lies in nine cases of ten; plan by its lower end.`;

export const STATES = {
  idle: ["Watching", "No alarm is on: there is nothing to do."],
  waiting_for_labels: [
    "Waiting for completed runs",
    "Something changed. The loop needs units that have run to their end to learn from.",
  ],
  running: ["Retraining", "A new model is being trained and judged."],
  shadow: ["Trying it alongside", "The new model answers beside the one in service; only the one in service is used."],
  awaiting_approval: ["Waiting for a person", "A person decides whether the new model goes into service."],
  verifying: ["Checking recovery", "The new model is in service; the watch checks that it fits."],
  cooling_down: ["Pausing", "A short rest before the next retraining may start."],
  unknown: ["Not known", "The loop’s process does not answer; what is in service goes on answering."],
};

export const STEPS_OF_LOOP = [
  "idle",
  "waiting_for_labels",
  "running",
  "shadow",
  "awaiting_approval",
  "verifying",
  "cooling_down",
];

export const stateName = (state) => STATES[state]?.[0] ?? sentence(state);

const VERDICTS = {
  no_drift: ["fits the model", "good"],
  fleet_age: ["fits; the fleet has aged", "good"],
  drift: ["has drifted", "bad"],
  not_enough_data: ["not enough requests yet", "plain"],
  unknown: ["not known yet", "plain"],
};

export const verdictWords = (verdict) => VERDICTS[verdict] ?? [verdict ? sentence(verdict) : "no verdict yet", "plain"];

const FLAGS = {
  stub: ["no model yet", "warn", "No model is in service: this figure is a placeholder."],
  unseen_regime: [
    "unknown conditions",
    "bad",
    "Operating conditions that the model was not trained on; the range is the widest possible.",
  ],
  out_of_distribution: ["unlike what was learnt", "bad", "Readings that are unlike anything the model learnt from."],
  provisional: [
    "provisional",
    "warn",
    "The model in service was given first aid and has not been trained on completed runs of this kind yet.",
  ],
  short_history: ["short history", "info", "Fewer readings than the model looks at."],
  no_finite_answer: ["no answer", "bad", "The model could not compute an answer; 0 is given, the cautious value."],
  no_youth: ["youth not seen", "info", "The first readings are not there: it was in service before they came, or its age is not known."],
  contradicting_rows: ["two under one name?", "warn", "Several readings came for one time: perhaps two send under this name."],
  gap: ["history begins anew", "info", "Readings were missing for a while, and this fleet's must not; what came before is not looked at."],
  held: ["sensor missing", "warn", "A reading of a sensor is missing; its last one stands in."],
  refused: ["no answer: refused", "bad", "The prediction server refused to answer."],
  too_much_missing: ["readings missing", "bad", "So many readings are missing that the answer says little."],
};

export const FLAG_NAMES = Object.keys(FLAGS);

/** The flags without those that only say again what another one says. */
export const tellingFlags = (flags) =>
  flags.includes("unseen_regime") ? flags.filter((flag) => flag !== "out_of_distribution") : flags;

/** The words, kind and explanation of a flag. */
export function flagWords(flag) {
  if (flag.startsWith("refused:")) return ["no answer: refused", "bad", `The prediction server refused it: ${flag.slice(8).trim()}`];
  if (flag.startsWith("held:"))
    return [`${flag.slice(5)} missing`, "warn", `A reading of ${flag.slice(5)} is missing; its last one stands in.`];
  return FLAGS[flag] ?? [flag.replaceAll("_", " "), "plain", null];
}

const CAUSES = {
  fleet_change: "the fleet changed",
  sensor_fault: "a sensor does not tell the truth",
  concept: "units wear differently than the model learnt",
  by_hand: "asked for by a person",
};

/** A cause such as `fleet_change:3` in words. */
export function causeWords(cause) {
  const [kind, version] = String(cause).split(":");
  return `${CAUSES[kind] ?? kind.replaceAll("_", " ")}${version ? ` (under model ${version})` : ""}`;
}

export const MARKS = {
  T0: ["Change begins", "the first requests that differ"],
  T1: ["Alarm", "the watch raises an alert"],
  T_FA: ["First aid", "a provisional model helps out until there is something to learn from"],
  T2: ["Retraining starts", "the loop has what it needs"],
  T_RT: ["New model", "judged better and put into service"],
  T4: ["First answer", "units get answers from the new model"],
  T5: ["Recovered", "the watch sees no drift under the new model"],
};

export const ROLES = {
  train: ["learning", "The model's weights are fitted on these."],
  early_stop: ["stopping", "They decide when training stops."],
  calibrate: ["calibrating", "The ranges are adjusted on these."],
  gate: ["judging", "A new model is judged on these; no model learns from them."],
  live: ["traffic only", "They only send traffic."],
};

/** What a step of the retraining does. */
export const STEPS = {
  collect: "gathering completed runs",
  train: "training",
  evaluate: "judging it against the model in service",
  shadow: "trying it alongside the model in service",
};

export const KINDS_OF_MODEL = {
  full: "trained from scratch",
  warm: "retrained",
  "first aid": "first aid",
  stub: "placeholder",
};

export const MODEL_STATES = {
  champion: ["in service", "good"],
  challenger: ["challenger", "info"],
  rejected: ["rejected", "bad"],
  previous: ["previous", "plain"],
  archived: ["archived", "plain"],
};

const EVENTS = {
  fleet_changed: ["The fleet changed", "info"],
  alert_firing: ["Alarm raised", "bad"],
  alert_resolved: ["Alarm ended", "good"],
  verdict: ["The watch looked", "plain"],
  runs_archived: ["Completed runs archived", "plain"],
  runs_withdrawn: ["Runs withdrawn", "warn"],
  runs_refused: ["Runs refused", "warn"],
  about_to_supersede: ["About to replace earlier labels", "warn"],
  feedback_received: ["Outcomes received", "plain"],
  concept_verdict: ["Wear compared with predictions", "plain"],
  runs_excluded: ["Runs left out", "warn"],
  retraining_started: ["Retraining started", "info"],
  retraining_adopted: ["Retraining taken up again", "info"],
  retraining_in_full: ["Training from scratch instead", "info"],
  waiting_for_labels: ["Waiting for completed runs", "info"],
  pipeline_started: ["Training run started", "info"],
  step_started: ["Step started", "plain"],
  step_finished: ["Step finished", "plain"],
  step_failed: ["Step failed", "bad"],
  challenger_registered: ["New model registered", "info"],
  gate_decided: ["New model judged", "info"],
  approval_needed: ["A person must decide", "warn"],
  approval_answered: ["A person decided", "info"],
  approval_void: ["Decision no longer needed", "plain"],
  approval_overdue: ["Decision overdue", "warn"],
  shadow_ended: ["Trial alongside ended", "info"],
  schedule_added: ["Schedule added", "plain"],
  schedule_removed: ["Schedule removed", "plain"],
  schedule_due: ["Schedule due", "info"],
  watch_firing: ["Own watch raised an alarm", "bad"],
  watch_resolved: ["Own watch’s alarm ended", "good"],
  notified: ["Somebody was told", "plain"],
  notification_failed: ["Nobody could be told", "bad"],
  first_aid_promoted: ["First aid in service", "warn"],
  first_aid_refused: ["No first aid", "plain"],
  first_aid_withdrawn: ["First aid withdrawn", "warn"],
  promoted: ["New model in service", "good"],
  rejected: ["New model rejected", "bad"],
  serving_confirmed: ["Server answers with it", "good"],
  serving_not_confirmed: ["Server does not answer with it", "bad"],
  recovery_verified: ["Recovered", "good"],
  recovery_failed: ["Not recovered", "bad"],
  rolled_back: ["Rolled back", "warn"],
  kept: ["Kept in service", "warn"],
  retraining_failed: ["Retraining failed", "bad"],
  retraining_refused: ["Retraining refused", "warn"],
  retraining_superseded: ["Retraining no longer needed", "warn"],
  muted: ["Alarm muted", "warn"],
  unmuted: ["Alarm no longer muted", "plain"],
};

export const EVENT_NAMES = Object.keys(EVENTS);

const PARTS = {
  retrainer: "The loop’s process",
  server: "The prediction server",
  units: "The service that keeps readings",
  registry: "The registry of models",
};

/** What each part of the platform is there for. */
export const DOES = {
  console: "these pages",
  mlflow: "keeps the models",
  server: "predicts",
  retrainer: "is the loop",
  watch: "looks for drift",
  units: "takes readings and keeps them",
};

export const AWAY = {
  server: "the prediction server does not answer",
  retrainer: "the loop’s process does not answer",
  units: "the service that keeps readings does not answer",
  watch: "the drift watch has gone silent",
};

/** Why something of a fleet is not known now; null where the part that would know answers. */
export const awayWords = (fleet, part) => ((fleet.away ?? []).includes(part) ? AWAY[part] : null);

/** What the API says against something; of a part of the platform that is away, which one. */
export function refusalWords({ status, detail, message, body }) {
  const part = status === 503 ? PARTS[body?.field] : null;
  if (!part || !detail) return detail || message || "";
  return /^(does|answers|cannot)/.test(detail) ? `${part} ${detail}` : `${part}: ${detail}`;
}

/** The words and kind of an event. */
export const eventWords = (name) => EVENTS[name] ?? [sentence(name), "plain"];

/** What a setting or a sensor measures, as the fleet file says; empty where it does not. */
export const whatIs = (name, fleet) =>
  [...(fleet.sensors ?? []), ...(fleet.settings ?? [])].find((column) => column.name === name)?.description ?? "";

/** What the gate found, each by itself. */
export const findings = (reasons) => (reasons ?? []).flatMap((reason) => reason.split("; "));

/** `some_words` as `Some words`. */
export function sentence(name) {
  return capital(String(name ?? "").replaceAll("_", " "));
}
