// All fleets at a glance; with one fleet alone, that fleet itself.

import { get, of } from "../api.js";
import { figure, h } from "../dom.js";
import { loopOf, modelOf, trafficOf, unitsOf } from "../glance.js";
import { count, number } from "../format.js";
import { page } from "../shell.js";
import { empty, part, settled } from "../states.js";

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
  const due = fleet.first_due;
  return h(
    "li",
    { class: "card" },
    h("h2", {}, h("a", { href: of(fleet.name) }, fleet.name)),
    h("p", { class: "note" }, fleet.description),
    h(
      "dl",
      { class: "figures small" },
      figure("In service", ...unitsOf(fleet)),
      figure(
        "First due",
        due ? due.unit : "–",
        due && `${count(due.rul, fleet.step)} (${number(due.low)}–${number(due.high)})`,
      ),
      figure("Model", ...modelOf(fleet, fleet.champion)),
      figure("Traffic", ...trafficOf(fleet)),
      figure("Loop", ...loopOf(fleet)),
    ),
  );
}
