// A fleet at a glance: each figure and what is to be said of it. What is not known now is never shown as nothing.

import { h, tag } from "./dom.js";
import { count } from "./format.js";
import { awayWords, flagWords, stateName, verdictWords } from "./words.js";

const UNKNOWN = "not known";

/** How many units there are. */
export const unitsOf = (fleet) => [
  fleet.units === null ? UNKNOWN : count(fleet.units, fleet.unit),
  awayWords(fleet, "units"),
];

/** The model in service, `shown` where there is one. */
export function modelOf(fleet, shown) {
  const away = awayWords(fleet, "server");
  if (away) return [UNKNOWN, away];
  return [fleet.champion ? shown : "none", fleet.provisional ? tag(...flagWords("provisional")) : null];
}

/** What the watch says of the traffic. */
export function trafficOf(fleet) {
  const [words, kind] = verdictWords(fleet.verdict);
  return [tag(words, kind), awayWords(fleet, "watch")];
}

/** Where the loop is, and what it waits for; `link` leads to its page, where it should. */
export const loopOf = (fleet, link = null) => [
  link === null ? stateName(fleet.state) : h("a", { href: link }, stateName(fleet.state)),
  fleet.waits_for ?? awayWords(fleet, "retrainer"),
];
