// Which rows of a long list are shown, and the way to the others.

import { button, h } from "./dom.js";
import { number } from "./format.js";

/**
 * The place in a list of `total` rows, of which `shown` are there from `query.offset` on, `query.limit` at most; `of`
 * says how many there are in all. `again()` is called when the offset has changed.
 */
export function pager(query, { total, shown, of, again, words = ["Previous", "Next"] }) {
  const move = (by) => {
    query.offset = Math.max(0, query.offset + by);
    again();
  };
  return [
    total > 0 && h("span", {}, `${number(query.offset + 1)}–${number(query.offset + shown)} of ${of}`),
    total > query.limit && [
      button(words[0], () => move(-query.limit), { disabled: query.offset === 0, "data-key": "previous" }),
      button(words[1], () => move(query.limit), {
        disabled: query.offset + query.limit >= total,
        "data-key": "next",
      }),
    ],
  ];
}
