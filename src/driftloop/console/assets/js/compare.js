// Two models side by side, or one alone: what each is, its errors by kind of unit, the judge's reasons, the trial.

import { h, pair, table, tag } from "./dom.js";
import { capital, count, moment, number, percent, plural } from "./format.js";
import { KINDS_OF_MODEL, MODEL_STATES } from "./words.js";

/** The champion and, where there is one, the challenger. */
export function compare(champion, challenger, fleet) {
  const both = [champion, challenger].filter(Boolean);
  const judged = challenger ?? champion;
  return [
    h(
      "div",
      { class: "versus" },
      both.map((model) => card(model, fleet)),
    ),
    domains(judged, fleet),
    gate(judged, fleet),
    shadow(judged, fleet),
  ];
}

function card(model, fleet) {
  const [words, kind] = MODEL_STATES[model.state] ?? [model.state, "plain"];
  const runs = model.learnt_from?.runs;
  return h(
    "section",
    { class: "side", "aria-label": `Model ${model.version}` },
    h("h3", {}, `Model ${model.version} `, tag(words, kind)),
    h(
      "dl",
      { class: "pairs" },
      pair("How", `${KINDS_OF_MODEL[model.kind] ?? model.kind}${model.parent ? ` from model ${model.parent}` : ""}`),
      pair("Since", moment(model.created)),
      runs !== undefined && runs !== null && pair("Learnt from", count(runs, "completed run")),
      Object.entries(model.figures ?? {}).map(
        ([name, value]) => typeof value === "number" && pair(figureName(name), figureText(name, value, fleet)),
      ),
    ),
    model.reasons?.length
      ? h(
          "ul",
          { class: "reasons" },
          model.reasons.map((reason) => h("li", {}, reason)),
        )
      : null,
  );
}

const FIGURES = {
  old_early_stop_rmse: "Error on kinds known before",
  old_early_stop_rmse_before: "The same before this training",
  early_stop_rmse: "Typical error (RMSE)",
  calibrate_coverage: "Range held the truth",
  calibrate_engines: "Units its range was checked on",
  interval_units: "Units its range was set by",
  interval_guarantee: "Range holds the truth at least",
  interval_width: "Width of the range",
  steps: "Training steps",
  rmse: "Typical error (RMSE)",
  coverage: "Range held the truth",
  mean_width: "Width of the range",
  width: "Width of the range",
  units: "Units judged on",
  engines: "Units judged on",
  score: "Score",
  mae: "Mean error",
};

const figureName = (name) => FIGURES[name] ?? name.replaceAll("_", " ").replace(/\brmse\b/, "RMSE");

function figureText(name, value, fleet) {
  if (/coverage|share|guarantee/.test(name)) return percent(value, 1);
  if (/rmse|mae|width|error|difference/.test(name)) return `${number(value, 2)} ${plural(fleet.step)}`;
  return Number.isInteger(value) ? number(value) : number(value, 3);
}

const GROUPS = { new: "new kind of unit", old: "kinds known before", 0: "first fleet" };
const groupName = (name) => GROUPS[name] ?? (/^\d+$/.test(String(name)) ? `change ${name}` : String(name));

/** How a model does on each kind of unit, beside the one that it was compared with. */
function domains(model, fleet) {
  if (!model.by_domain?.length) return null;
  const other = model.compared_with ?? model.parent;
  const columns = [
    { name: "Kind of unit", cell: (row) => groupName(row.domain) },
    { name: capital(plural(fleet.unit)), class: "num", cell: (row) => number(row.units) },
    { name: `Error of model ${model.version}`, class: "num", cell: (row) => better(row.rmse, row.champion_rmse) },
    ...(model.by_domain.some((row) => row.champion_rmse !== undefined)
      ? [
          {
            name: other ? `Error of model ${other}` : "Error of the one before",
            class: "num",
            cell: (row) => better(row.champion_rmse, row.rmse),
          },
        ]
      : []),
    ...(model.by_domain.some((row) => typeof row.coverage === "number")
      ? [{ name: "Range held the truth", class: "num", cell: (row) => percent(row.coverage, 1) }]
      : []),
  ];
  return block(
    "By kind of unit",
    `Error: root mean square error in ${plural(fleet.step)}; the smaller one is bold.`,
    table("Errors by kind of unit", columns, model.by_domain),
  );
}

const better = (value, other) =>
  typeof other === "number" && value < other ? h("strong", {}, number(value, 2)) : number(value, 2);

const block = (title, note, ...content) =>
  h("section", { class: "block-of" }, h("h3", {}, title), note && h("p", { class: "note" }, note), content);

function gate(model, fleet) {
  if (!model.gate?.length) return null;
  const columns = [
    { name: "What", cell: (row) => row.what },
    { name: "This model", class: "num", cell: (row) => number(row.challenger, 2) },
    { name: "In service then", class: "num", cell: (row) => number(row.champion, 2) },
    ...(model.gate.some((row) => typeof row.difference?.[1] === "number")
      ? [{ name: "Worse by at most", class: "num", cell: (row) => number(row.difference?.[1], 2) }]
      : []),
    ...(model.gate.some((row) => typeof row.limit === "number")
      ? [{ name: "Allowed", class: "num", cell: (row) => number(row.limit, 2) }]
      : []),
    {
      name: "Passed",
      cell: (row) =>
        row.passed === null || row.passed === undefined
          ? tag("not judged", "plain")
          : row.passed
            ? tag("passed", "good")
            : tag("not passed", "bad"),
    },
  ];
  return block(
    `How model ${model.version} was judged`,
    `Errors in ${plural(fleet.step)}, on units that no model has learnt from; “worse by at most” leaves room for chance (95 %); below zero is better.`,
    table("The gate’s reasons", columns, model.gate),
  );
}

function shadow(model, fleet) {
  const tried = model.shadow;
  if (!tried) return null;
  const rows = tried.differences ?? [];
  const columns = [
    { name: "Group", cell: (row) => (row.by === "all" ? "all" : `${row.by} ${row.group}`) },
    { name: "Answers", class: "num", cell: (row) => number(row.answers) },
    { name: "Mean difference", class: "num", cell: (row) => number(row.mean, 2) },
    { name: "Mean size", class: "num", cell: (row) => number(row.mean_absolute, 2) },
  ];
  return block(
    "Trial alongside",
    `Both models answered the same requests; differences in ${plural(fleet.step)}.`,
    h(
      "p",
      {},
      tag(tried.passed ? "passed" : "not passed", tried.passed ? "good" : "bad"),
      ` ${count(tried.answers ?? 0, "answer")} compared`,
      tried.p99_ms
        ? `; slowest 1 % within ${number(tried.p99_ms.challenger, 2)} ms (in service: ${number(tried.p99_ms.champion, 2)} ms)`
        : "",
      tried.note ? `; ${tried.note}` : "",
      ".",
    ),
    (tried.reasons ?? []).map((reason) => h("p", {}, reason)),
    rows.length ? table("Differences in the trial", columns, rows) : null,
  );
}
