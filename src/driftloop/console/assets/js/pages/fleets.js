// All fleets at a glance; with one fleet alone, that fleet itself.

import { get, of } from "../api.js";
import { figure, h, tag } from "../dom.js";
import { count, number, plural } from "../format.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";
import { stateName, verdictWords } from "../words.js";

page(({ fleets, main, live }) => {
  if (fleets.length === 1) return location.replace(of(fleets[0].name));
  const cards = part(
    "the fleets",
    () => get("/fleets"),
    ({ fleets: found }) =>
      found.length
        ? h("ul", { class: "cards" }, found.map(card))
        : empty(
            "No fleet yet",
            "Describe one in a fleet file and start the platform with it: driftloop up --fleet my-fleet.toml.",
          ),
    { every: 10_000 },
  );
  main.append(
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Fleets"),
      h("p", {}, "What is in service, and what the platform is doing about it."),
    ),
    cards.node,
  );
  const again = settled(cards.refresh);
  live({ event: again, state: again, resumed: again });
});

function card(fleet) {
  const [words, kind] = verdictWords(fleet.verdict);
  const due = fleet.first_due;
  return h(
    "li",
    { class: "card" },
    h("h2", {}, h("a", { href: of(fleet.name) }, fleet.name)),
    h("p", { class: "note" }, fleet.description),
    h(
      "dl",
      { class: "figures small" },
      figure("In service", count(fleet.units, fleet.unit)),
      figure(
        "First due",
        due ? due.unit : "–",
        due && `${number(due.rul)} ${plural(fleet.step)} (${number(due.low)}–${number(due.high)})`,
      ),
      figure("Model", fleet.champion ?? "none", fleet.provisional ? tag("provisional", "warn") : null),
      figure("Traffic", tag(words, kind)),
      figure("Loop", stateName(fleet.state), fleet.waits_for),
    ),
  );
}
