// Two models side by side, or one alone: what each is, its errors by kind of unit, the judge's reasons, the trial.

import { h, table, tag } from "./dom.js";
import { count, moment, number, percent, plural } from "./format.js";
import { KINDS_OF_MODEL, MODEL_STATES } from "./words.js";

/** The champion and, where there is one, the challenger. */
export function compare(champion, challenger, fleet) {
  const both = [champion, challenger].filter(Boolean);
  const judged = challenger ?? champion;
  return [
    h("div", { class: "versus" }, both.map((model) => card(model, fleet))),
    domains(both, fleet),
    gate(judged, fleet),
    shadow(judged),
  ];
}

function card(model, fleet) {
  const [words, kind] = MODEL_STATES[model.state] ?? [model.state, "plain"];
  const runs = model.learnt_from?.runs;
  return h("section", { class: "side", "aria-label": `Model ${model.version}` },
    h("h3", {}, `Model ${model.version} `, tag(words, kind)),
    h("dl", { class: "pairs" },
      pair("How", `${KINDS_OF_MODEL[model.kind] ?? model.kind}${model.parent ? ` from model ${model.parent}` : ""}`),
      pair("Since", moment(model.created)),
      runs !== undefined && runs !== null && pair("Learnt from", count(runs, "completed run")),
      Object.entries(model.figures ?? {}).map(([name, value]) => typeof value === "number" && pair(figureName(name), figureText(name, value, fleet))),
    ),
    model.reasons?.length ? h("ul", { class: "reasons" }, model.reasons.map((reason) => h("li", {}, reason))) : null,
  );
}

const pair = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

const FIGURES = { rmse: "Typical error (RMSE)", coverage: "Range held the truth", mean_width: "Width of the range", width: "Width of the range", units: "Units judged on", engines: "Units judged on", score: "Score", mae: "Mean error" };

const figureName = (name) => FIGURES[name] ?? name.replaceAll("_", " ").replace(/\brmse\b/, "RMSE");

function figureText(name, value, fleet) {
  if (/coverage|share/.test(name)) return percent(value, 1);
  if (/rmse|mae|width|error|difference/.test(name)) return `${number(value, 2)} ${plural(fleet.step)}`;
  return Number.isInteger(value) ? number(value) : number(value, 3);
}

function domains(models, fleet) {
  const names = [...new Set(models.flatMap((model) => (model.by_domain ?? []).map((row) => row.domain)))];
  if (!names.length) return null;
  const of = (model, name) => model.by_domain?.find((row) => row.domain === name);
  const columns = [
    { name: "Kind of unit", cell: (name) => (/^\d+$/.test(String(name)) ? (Number(name) === 0 ? "first fleet" : `change ${name}`) : name) },
    { name: plural(fleet.unit), class: "num", cell: (name) => number(models.map((model) => of(model, name)?.units).find((units) => units !== undefined)) },
    ...models.flatMap((model) => [
      { name: `Error of ${model.version}`, class: "num", cell: (name) => best(models, model, name, of) },
      { name: `Range of ${model.version}`, class: "num", cell: (name) => percent(of(model, name)?.coverage, 1) },
    ]),
  ];
  return [h("h3", {}, "By kind of unit"), h("p", { class: "note" }, `Error: root mean square error in ${plural(fleet.step)}. Range: how often it held the truth; nine of ten is meant.`), table("Errors by kind of unit", columns, names)];
}

function best(models, model, name, of) {
  const value = of(model, name)?.rmse;
  const others = models.filter((other) => other !== model).map((other) => of(other, name)?.rmse).filter((other) => other !== undefined && other !== null);
  const text = number(value, 2);
  return others.length && value < Math.min(...others) ? h("strong", {}, text) : text;
}

function gate(model, fleet) {
  if (!model.gate?.length) return null;
  const columns = [
    { name: "What", cell: (row) => row.what },
    { name: "This model", class: "num", cell: (row) => number(row.challenger, 2) },
    { name: "In service then", class: "num", cell: (row) => number(row.champion, 2) },
    { name: "Limit", class: "num", cell: (row) => (typeof row.limit === "number" ? number(row.limit, 2) : (row.limit ?? "–")) },
    { name: "Passed", cell: (row) => (row.passed === null || row.passed === undefined ? tag("not judged", "plain") : row.passed ? tag("passed", "good") : tag("not passed", "bad")) },
  ];
  return [h("h3", {}, `How model ${model.version} was judged`), h("p", { class: "note" }, `In ${plural(fleet.step)}; a bound is the cautious end of what chance allows (95 %).`), table("The gate’s reasons", columns, model.gate)];
}

function shadow(model) {
  const tried = model.shadow;
  if (!tried) return null;
  const rows = tried.differences ?? [];
  const columns = [
    { name: "Group", cell: (row) => (row.by === "all" ? "all" : `${row.by} ${row.group}`) },
    { name: "Answers", class: "num", cell: (row) => number(row.answers) },
    { name: "Mean difference", class: "num", cell: (row) => number(row.mean, 2) },
    { name: "Mean size", class: "num", cell: (row) => number(row.mean_absolute, 2) },
  ];
  return [
    h("h3", {}, "Trial alongside "), h("p", {}, tag(tried.passed ? "passed" : "not passed", tried.passed ? "good" : "bad"), ` ${count(tried.answers ?? 0, "answer")} compared`, tried.p99_ms ? `; slowest 1 % within ${number(tried.p99_ms.challenger, 2)} ms (in service: ${number(tried.p99_ms.champion, 2)} ms)` : "", tried.note ? `; ${tried.note}` : "", "."),
    (tried.reasons ?? []).map((reason) => h("p", {}, reason)), rows.length ? table("Differences in the trial", columns, rows) : null,
  ];
}
