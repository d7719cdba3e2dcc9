// Models: which one serves, which one would replace it and why or why not, and where each came from.

import { get, of, post } from "../api.js";
import { REASON, ask, may, notAllowed } from "../act.js";
import { button, fill, h, panel, tag } from "../dom.js";
import { moment, number } from "../format.js";
import { lineage } from "../lineage.js";
import { compare } from "../compare.js";
import { pager } from "../pager.js";
import { page } from "../shell.js";
import { empty, failure, loading, part, settled } from "../states.js";
import { KINDS_OF_MODEL, MODEL_STATES, findings } from "../words.js";

const ROWS = 50;

page(({ me, fleet, main, live }) => {
  const query = { offset: 0, limit: ROWS };
  const after = () => [list, pair].forEach((each) => each.refresh());
  const shared = { me, fleet, after };
  const pair = part(
    "the models in question",
    () => fetchPair(shared),
    (found) => drawPair(found, shared),
    { every: 10_000 },
  );
  const list = part(
    "models",
    () => get(of(fleet.name, "models"), query),
    (found) => drawList(found, query, shared, () => list.refresh()),
    { every: 15_000 },
  );
  main.append(
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Models"),
      h(
        "p",
        {},
        "Each retraining makes a new version. It serves only if it passed on runs that no model has learnt from.",
      ),
    ),
    pair.node,
    panel("All versions", list.node, {
      wide: true,
      note: "newest first; a line leads to the version that each one grew out of",
    }),
  );
  const again = settled(after);
  live({ event: (event) => event.event !== "verdict" && again(), state: again, resumed: (anew) => anew && again() });
});

async function fetchPair(shared) {
  const { fleet } = shared;
  const [loop, { models }] = await Promise.all([
    get(of(fleet.name, "loop")),
    get(of(fleet.name, "models"), { limit: 100 }),
  ]);
  const champion = models.find((model) => model.state === "champion") ?? null;
  const waiting = loop.approval?.version;
  const other =
    models.find((model) => model.version === waiting) ?? models.find((model) => model.state === "challenger") ?? null;
  const previous = models.find((model) => model.state === "previous") ?? null;
  shared.champion = champion?.version;
  const details = (model) => (model ? get(of(fleet.name, "models", model.version)) : null);
  const [first, second] = await Promise.all([details(champion), details(other)]);
  if (second && !second.shadow && loop.approval?.shadow) second.shadow = loop.approval.shadow;
  return { approval: loop.approval, champion: first, challenger: second, previous };
}

function drawPair({ approval, champion, challenger, previous }, shared) {
  const { me, fleet } = shared;
  if (!champion && !challenger)
    return empty(
      "No model yet",
      `Train one: driftloop train makes the first model of this fleet from its completed runs.`,
    );
  const cannot = notAllowed(me, "operate");
  const decide =
    approval &&
    h(
      "section",
      { class: "panel wide call", "aria-label": "A person must decide" },
      h(
        "div",
        { class: "grow" },
        h(
          "h2",
          {},
          `May model ${approval.version} go into service? `,
          approval.passed === false && tag("too few units to judge it", "warn"),
          approval.overdue && tag("overdue", "bad"),
        ),
        approval.kind === "first_aid" &&
          h(
            "p",
            {},
            "It is first aid: widened from traffic, without completed runs. Its answers will be marked provisional.",
          ),
        h(
          "ul",
          { class: "reasons" },
          findings(approval.reasons).map((reason) => h("li", {}, reason)),
        ),
        h(
          "p",
          { class: "note" },
          "waits since ",
          moment(approval.since),
          approval.deadline
            ? [
                " · to be decided by ",
                moment(approval.deadline),
                `, then: ${AFTER[approval.after_deadline] ?? approval.after_deadline}`,
              ]
            : null,
        ),
        cannot,
      ),
      !cannot &&
        h(
          "div",
          { class: "actions" },
          button("Approve", () => answer(approval, "approve", shared), { class: "primary", "data-key": "approve" }),
          button("Reject", () => answer(approval, "reject", shared), { "data-key": "reject" }),
        ),
    );
  return [
    decide,
    panel(challenger ? "Side by side" : "In service", compare(champion, challenger, fleet), {
      wide: true,
      note: challenger ? "errors on runs that neither has learnt from; lower is better" : null,
      actions: may(me, "operate") &&
        previous && [button("Roll back", () => rollBack(champion, previous, shared), { "data-key": "rollback" })],
    }),
    !approval && cannot,
  ];
}

const AFTER = { wait: "it waits on", reject: "it is rejected", promote: "it goes into service" };

function answer(approval, verdict, { fleet, after }) {
  const approve = verdict === "approve";
  ask({
    title: approve ? `Put model ${approval.version} into service?` : `Reject model ${approval.version}?`,
    verb: approve ? "Approve" : "Reject",
    danger: !approve,
    after,
    text: approve
      ? `It replaces model ${approval.champion} at once. The watch then checks that it fits; model ${approval.champion} can be brought back.`
      : `Model ${approval.champion} stays in service.`,
    fields: [REASON],
    run: async (values) => {
      await post(of(fleet.name, "approvals", approval.id, verdict), values);
      return approve ? `Model ${approval.version} goes into service.` : `Model ${approval.version} is rejected.`;
    },
  });
}

function rollBack(champion, previous, { fleet, after }) {
  ask({
    title: `Bring back model ${previous.version}?`,
    verb: "Roll back",
    danger: true,
    after,
    text: `Model ${previous.version} answers instead of model ${champion.version} within a second.`,
    fields: [REASON],
    run: async (values) => {
      const said = await post(of(fleet.name, "models", "rollback"), { ...values, from_version: champion.version });
      return said.already
        ? `Model ${champion.version} had been taken out already; model ${said.model_version} is in service.`
        : `Model ${said.model_version} is in service again.`;
    },
  });
}

function promote(model, { fleet, after, champion }) {
  ask({
    title: `Put model ${model.version} into service?`,
    verb: "Put into service",
    danger: true,
    after,
    text: [
      `It was ${MODEL_STATES[model.state]?.[0] ?? model.state}. Nothing judges it again before it answers.`,
      model.reasons?.length ? h("span", { class: "block" }, `What was said of it: ${model.reasons.join("; ")}.`) : null,
    ],
    fields: [REASON],
    run: async (values) => {
      // Bound to what the page showed: somebody may have put another one into service meanwhile.
      const seen = champion ? { from_version: champion } : {};
      await post(of(fleet.name, "models", model.version, "promote"), { ...values, ...seen });
      return `Model ${model.version} is in service.`;
    },
  });
}

function drawList({ total, models }, query, shared, refresh) {
  if (!total) return empty("No version yet", "The first one appears when a model has been trained.");
  const detail = h("div", {});
  const show = async (model) => {
    const dialog = h("dialog", { class: "wide-dialog", "aria-label": `Model ${model.version}` }, detail);
    fill(detail, loading(`model ${model.version}`));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    const close = button("Close", () => dialog.close());
    try {
      const found = await get(of(shared.fleet.name, "models", model.version));
      fill(
        detail,
        h("h2", {}, `Model ${model.version}`),
        compare(found, null, shared.fleet),
        h("div", { class: "actions" }, close),
      );
    } catch (error) {
      fill(detail, failure(error), h("div", { class: "actions" }, close));
    }
    close.focus();
  };
  // Two lines of them; all stand behind the model's name.
  const reasons = (model) => (model.reasons ?? []).join("; ");
  const rows = models.map((model) =>
    h(
      "li",
      { class: "version", "data-version": model.version },
      h(
        "div",
        { class: "version-name" },
        button(`Model ${model.version}`, () => show(model), { class: "link", "data-key": `model-${model.version}` }),
        tag(...(MODEL_STATES[model.state] ?? [model.state, "plain"])),
      ),
      h(
        "span",
        { class: "note" },
        KINDS_OF_MODEL[model.kind] ?? model.kind,
        model.parent ? ` from ${model.parent}` : "",
      ),
      h("span", { class: "why", title: reasons(model) }, reasons(model)),
      h("span", { class: "nowrap note" }, moment(model.created)),
      may(shared.me, "operate") && model.state !== "champion" && model.kind !== "stub"
        ? button("Put into service", () => promote(model, shared), {
            class: "small",
            "data-key": `promote-${model.version}`,
            "aria-label": `Put model ${model.version} into service`,
          })
        : h("span", {}),
    ),
  );
  const shown = { total, shown: models.length, of: number(total), again: refresh, words: ["Newer", "Older"] };
  const place = total > query.limit && h("div", { class: "pager" }, pager(query, shown));
  return [h("div", { class: "versions" }, lineage(models), h("ol", {}, rows)), place];
}
