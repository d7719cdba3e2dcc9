// The timeline of a recovery, from the first sign of change (T0) to the proof that all is well again (T5).

import { h } from "./dom.js";
import { duration, moment } from "./format.js";
import { empty } from "./states.js";
import { MARKS } from "./words.js";

/** The marks in their order, with the time between them; those that have not happened are there, empty. */
export function timeline(marks) {
  const known = new Map((marks ?? []).filter((mark) => mark.time).map((mark) => [mark.mark, mark]));
  if (!known.size)
    return empty("No change so far", "When the fleet changes, each step of the recovery appears here as it happens.");
  const start = new Date([...known.values()][0].time);
  let before = null;
  const items = Object.entries(MARKS).map(([name, [title, meaning]]) => {
    const mark = known.get(name);
    const at = mark ? new Date(mark.time) : null;
    const since = at && before ? (at - before) / 1000 : null;
    if (at) before = at;
    const skipped = !mark && (name === "T_FA" || name === "T0");
    return h(
      "li",
      { class: mark ? "done" : skipped ? "skipped" : "open", data: { mark: name } },
      h("span", { class: "node", "aria-hidden": "true" }),
      h("span", { class: "mark" }, name.replace("_", "·")),
      h("strong", {}, title),
      h(
        "span",
        { class: "when" },
        mark
          ? [moment(mark.time), h("span", { class: "note" }, ` +${duration((at - start) / 1000)}`)]
          : h("span", { class: "note" }, skipped ? (name === "T_FA" ? "not needed so far" : "not known") : "not yet"),
      ),
      h("span", { class: "note" }, since !== null && since >= 0 ? `${duration(since)} after the mark before` : meaning),
    );
  });
  return h("ol", { class: "timeline" }, items);
}
