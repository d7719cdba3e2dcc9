// What drives a prediction: a bar for each sensor, to the left where it shortens life.

import { h } from "./dom.js";
import { count, number, plural } from "./format.js";
import { empty } from "./states.js";
import { whatIs } from "./words.js";

const MOST = 8;

export function drivers(found, fleet) {
  const telling = found.contributions.filter((part) => Math.abs(part.steps) >= 0.05).slice(0, MOST);
  if (!telling.length)
    return empty(
      "Nothing stands out",
      `This ${fleet.unit} is predicted as an average one is, ${count(found.reference, fleet.step)}.`,
    );
  const most = Math.abs(telling[0].steps);
  const rest = found.rul - found.reference - telling.reduce((sum, part) => sum + part.steps, 0);
  return [
    h(
      "p",
      {},
      `An average ${fleet.unit} under the same conditions has ${number(found.reference, 1)} ${plural(fleet.step)} left; this one has ${number(found.rul, 1)}${found.step === null ? "" : `, by its readings up to ${fleet.step} ${number(found.step)}`}. Of the difference:`,
    ),
    h(
      "ul",
      { class: "drivers" },
      telling.map((part) => bar(part, most, fleet)),
    ),
    h(
      "p",
      { class: "note" },
      `All other sensors together: ${signed(rest)} ${plural(fleet.step)}. Method: ${found.method}.`,
    ),
  ];
}

const signed = (value) => `${value < 0 ? "−" : "+"}${number(Math.abs(value), 1)}`;

function bar(part, most, fleet) {
  const half = (50 * Math.abs(part.steps)) / most;
  const name = part.unit ? `${part.sensor} (${part.unit})` : part.sensor;
  const style = part.steps < 0 ? { right: "50%", width: `${half}%` } : { left: "50%", width: `${half}%` };
  return h(
    "li",
    {},
    h("span", { class: "driver-name" }, name, h("span", { class: "block note" }, whatIs(part.sensor, fleet))),
    h(
      "span",
      { class: "driver-bar", "aria-hidden": "true" },
      h("i", { class: part.steps < 0 ? "shorter" : "longer", style }),
    ),
    h("span", { class: "driver-steps" }, `${signed(part.steps)} ${plural(fleet.step)}`),
  );
}
