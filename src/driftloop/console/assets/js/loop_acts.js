// What a person may do to the loop: start a retraining, give first aid, mute an alarm, plan ahead.

import { of, post, remove } from "./api.js";
import { REASON, ask, may } from "./act.js";
import { button, h, table, tag } from "./dom.js";
import { duration, moment, number, plural } from "./format.js";
import { empty } from "./states.js";
import { causeWords } from "./words.js";

const HOURS = [
  ["3600", "1 hour"],
  ["14400", "4 hours"],
  ["86400", "1 day"],
  ["604800", "1 week"],
];

/** The buttons of the loop itself. */
export function acts({ fleet, after }) {
  const retrain = () =>
    ask({
      title: "Retrain now?",
      verb: "Retrain",
      after,
      text: "A new model learns from all completed runs. It goes into service only if it is better on runs that no model has seen.",
      fields: [
        {
          name: "mode",
          label: "How",
          kind: "select",
          options: [
            ["warm", "on from the model in service (minutes)"],
            ["full", "from scratch (longer)"],
          ],
          value: "warm",
        },
        { ...REASON, required: false },
      ],
      run: async (values) => {
        await post(of(fleet.name, "loop", "retrain"), values);
        return "The retraining is queued; this page shows how it goes.";
      },
    });
  const aid = () =>
    ask({
      title: "Give first aid?",
      verb: "Give first aid",
      after,
      text: "The model in service is widened from the newest traffic, without completed runs. Its answers are marked provisional until a retraining replaces it.",
      fields: [{ ...REASON, required: false }],
      run: async (values) => {
        const said = await post(of(fleet.name, "loop", "first-aid"), values);
        return (
          said?.reason ??
          (said?.model_version
            ? `Model ${said.model_version} is in service, provisionally.`
            : "First aid was asked for.")
        );
      },
    });
  return h(
    "div",
    { class: "acts" },
    h(
      "div",
      {},
      button("Retrain now", retrain, { "data-key": "retrain" }),
      h("p", { class: "note" }, "Learns from all completed runs; judged before it serves."),
    ),
    h(
      "div",
      {},
      button("Give first aid", aid, { "data-key": "aid" }),
      h("p", { class: "note" }, "A stopgap while nothing has run to its end yet."),
    ),
  );
}

/** Mute or unmute, for one cause. */
export function causeActs(cause, { me, fleet, after }) {
  if (!may(me, "operate")) return null;
  const path = of(fleet.name, "causes", cause.cause, "mute");
  if (cause.muted_until) {
    return button(
      "Unmute",
      () =>
        ask({
          title: "Unmute this alarm?",
          verb: "Unmute",
          after,
          text: `People are told of “${causeWords(cause.cause)}” again.`,
          run: async () => {
            await remove(path);
            return "The alarm is no longer muted.";
          },
        }),
      { "data-key": `mute-${cause.cause}` },
    );
  }
  return button(
    "Mute",
    () =>
      ask({
        title: "Mute this alarm?",
        verb: "Mute",
        after,
        text: `Nobody is told of “${causeWords(cause.cause)}” until then. What the loop does about it stays the same.`,
        fields: [{ name: "for_s", label: "For", kind: "select", options: HOURS, value: "14400" }, REASON],
        run: async (values) => {
          await post(path, { for_s: Number(values.for_s), reason: values.reason });
          return "The alarm is muted.";
        },
      }),
    { "data-key": `mute-${cause.cause}` },
  );
}

const DAYS = [
  ["* * *", "every day"],
  ["* * 1", "Mondays"],
  ["* * 2", "Tuesdays"],
  ["* * 3", "Wednesdays"],
  ["* * 4", "Thursdays"],
  ["* * 5", "Fridays"],
  ["* * 6", "Saturdays"],
  ["* * 0", "Sundays"],
  ["1 * *", "on the 1st of each month"],
];

/** A cron expression in words, where it is one of those that people choose here; else itself. */
function cronWords(cron) {
  const [, minute, hour, days] = /^(\d{1,2}) (\d{1,2}) (\S+ \S+ \S+)$/.exec(cron) ?? [];
  const words = DAYS.find(([each]) => each === days)?.[1];
  return words ? `${words}, ${hour.padStart(2, "0")}:${minute.padStart(2, "0")} UTC` : h("code", {}, `${cron} (UTC)`);
}

const cronOf = ({ days, time }) => `${Number(time.slice(3, 5))} ${Number(time.slice(0, 2))} ${days}`;

/** What an entry does, in words. */
const ACTS = {
  retrain: () => "retrain",
  overdue: (row) => `tell when nothing was trained for ${number(row.days)} days`,
  error: (row, fleet) => `tell when the error is above ${number(row.above, 1)} ${plural(fleet.step)}`,
};

/** What is planned, with ways to plan more and to cancel. */
export function schedules(found, { me, fleet, after }) {
  const allowed = may(me, "operate");
  const add =
    allowed &&
    button(
      "Add a schedule",
      () =>
        ask({
          title: "Add a schedule",
          verb: "Add",
          after,
          text: "The loop retrains at these times, whatever the watch says; a new model is judged as always.",
          fields: [
            {
              name: "name",
              label: "Name",
              required: true,
              hint: "Lower-case letters, digits and . _ -",
              attributes: { pattern: "[a-z0-9][a-z0-9_.\\-]{0,63}", title: "Lower-case letters, digits and . _ -, at most 64" },
            },
            { name: "days", label: "Days", kind: "select", options: DAYS, value: "* * 1" },
            {
              name: "time",
              label: "Time (UTC)",
              kind: "time",
              value: "03:00",
              required: true,
              hint: `Now it is ${new Date().toISOString().slice(11, 16)} UTC. Other times: driftloop schedules add --cron.`,
            },
            {
              name: "mode",
              label: "How",
              kind: "select",
              options: [
                ["warm", "on from the model in service"],
                ["full", "from scratch"],
              ],
              value: "warm",
            },
          ],
          run: async (values) => {
            const { name, mode } = values;
            await post(of(fleet.name, "schedules"), { name, mode, cron: cronOf(values), act: "retrain" });
            return `“${values.name}” is planned.`;
          },
        }),
      { "data-key": "add-schedule" },
    );
  if (!found.length)
    return empty(
      "Nothing is planned",
      "The loop acts when the watch raises an alarm. A schedule retrains at set times as well.",
      add,
    );
  const columns = [
    { name: "Name", cell: (row) => row.name },
    { name: "Does", cell: (row) => [ACTS[row.act]?.(row, fleet) ?? row.act, row.firing && h("span", { class: "tags" }, tag("now", "bad"))] },
    { name: "When", cell: (row) => (row.cron ? cronWords(row.cron) : `every ${duration(row.every_s)}`) },
    { name: "Next", cell: (row) => moment(row.next) },
    { name: "Last", class: "wide-only", cell: (row) => moment(row.last) },
    { name: "By", class: "wide-only", cell: (row) => row.who ?? "–" },
    ...(allowed
      ? [
          {
            name: "",
            head: h("span", { class: "visually-hidden" }, "Acts"),
            cell: (row) =>
              button(
                "Remove",
                () =>
                  ask({
                    title: `Remove “${row.name}”?`,
                    verb: "Remove",
                    danger: true,
                    after,
                    text: "It will not start anything any more.",
                    run: async () => {
                      await remove(of(fleet.name, "schedules", row.name));
                      return `“${row.name}” is removed.`;
                    },
                  }),
                { class: "small", "aria-label": `Remove ${row.name}`, "data-key": `remove-${row.name}` },
              ),
          },
        ]
      : []),
  ];
  return [table("Schedules", columns, found), add];
}
