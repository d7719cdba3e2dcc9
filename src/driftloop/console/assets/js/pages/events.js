// Everything that happened: searchable, live, each decision with its reason and each human act with who.

import { get, of } from "../api.js";
import { button, fill, h, pair, tag } from "../dom.js";
import { capital, count, moment, number } from "../format.js";
import { page } from "../shell.js";
import { empty, failure, loading, settled } from "../states.js";
import { AWAY, EVENT_NAMES, causeWords, eventWords } from "../words.js";

const ROWS = 100;
const SHOWN_ELSEWHERE = new Set(["seq", "time", "event", "kind", "who", "reason", "fleet", "id"]);

page(async ({ fleet, main, live }) => {
  const known = new Set();
  const query = { q: "", event: "-verdict", limit: ROWS };
  let oldest = null;
  let turn = 0;
  let retry = null;
  /** What has arrived since the list was asked for; null where no answer is waited for. */
  let meanwhile = null;
  const list = h("ol", { class: "events", "aria-label": "Events, newest first" });
  const state = h("div", {}, loading("events"));
  const more = h("div", { class: "more" });
  const away = h("div", {});
  const again = settled(restart, 250);
  const find = h("input", {
    type: "search",
    id: "find",
    placeholder: "Search: a name, a model, a reason",
    oninput: () => change({ q: find.value.trim() }),
    autocomplete: "off",
  });
  const only = h(
    "select",
    { id: "event", onchange: (event) => change({ event: event.target.value }) },
    h("option", { value: "-verdict" }, "decisions and acts"),
    h("option", { value: "" }, "everything"),
    EVENT_NAMES.map((name) => h("option", { value: name }, eventWords(name)[0])),
  );
  main.append(
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Events"),
      h("p", {}, "What the platform and people did, and why. New ones appear by themselves."),
    ),
    h(
      "section",
      { class: "panel wide", "aria-label": "Events" },
      h(
        "div",
        { class: "tools" },
        h("label", { for: "find", class: "visually-hidden" }, "Search"),
        find,
        h("label", { for: "event" }, "Show"),
        only,
      ),
      away,
      state,
      list,
      more,
    ),
  );
  const last = await restart();
  live({ event: arrived, state: late }, last === null ? null : `${fleet.name}:${last}`);

  function change(changes) {
    Object.assign(query, changes);
    again();
  }

  async function restart() {
    const mine = ++turn;
    clearTimeout(retry);
    meanwhile = [];
    try {
      const found = await get(of(fleet.name, "events"), query);
      if (mine !== turn) return null;
      known.clear();
      list.replaceChildren();
      newestFirst(found.events).forEach((event) => add(event, false));
      finish(found);
      const came = meanwhile;
      meanwhile = null;
      came.forEach(arrived);
      return found.last ?? null;
    } catch (error) {
      if (mine !== turn) return null;
      meanwhile = null;
      fill(state, failure(error, restart));
      // What has arrived since is a part of a list whose beginning is not there.
      if (error.status === 0 || error.status >= 500) retry = setTimeout(restart, 3000);
      return null;
    }
  }

  async function older() {
    const mine = turn;
    try {
      const found = await get(of(fleet.name, "events"), { ...query, before: oldest });
      if (mine !== turn) return;
      newestFirst(found.events).forEach((event) => add(event, false));
      finish(found);
    } catch (error) {
      if (mine === turn) fill(more, failure(error, older));
    }
  }

  /** Says that nothing new can come, while whoever writes events down is away. */
  function late(now) {
    fill(
      away,
      now.state === "unknown" &&
        h(
          "p",
          { class: "stale", role: "status" },
          h("strong", {}, "This may not be up to date. "),
          `${capital(AWAY.retrainer)}: what happens meanwhile appears when it is back.`,
        ),
    );
  }

  function finish(found) {
    oldest = found.events.length ? Math.min(...found.events.map((event) => event.seq)) : oldest;
    fill(
      state,
      known.size
        ? null
        : query.q || !query.event.startsWith("-")
          ? empty("Nothing matches", "Try fewer words, or show everything.")
          : empty("Nothing has happened yet", "The first event comes with the watch’s first verdict."),
    );
    const done = found.events.length < ROWS;
    fill(
      more,
      known.size > 0 &&
        (done ? h("p", { class: "note" }, `That is all (${number(known.size)} shown).`) : button("Show older", older)),
    );
  }

  function arrived(event) {
    meanwhile?.push(event);
    if (query.event.startsWith("-") ? `-${event.event}` === query.event : query.event && event.event !== query.event)
      return;
    if (query.q && !JSON.stringify(event).toLowerCase().includes(query.q.toLowerCase())) return;
    if (state.querySelector(".failed")) return;
    fill(state);
    add(event, true);
  }

  /** Each event once, in the order of its number. */
  function add(event, fresh) {
    if (known.has(event.seq)) return;
    known.add(event.seq);
    const row = draw(event, fresh);
    if (!fresh) return list.append(row);
    const after = [...list.children].find((each) => Number(each.dataset.seq) < event.seq);
    list.insertBefore(row, after ?? null);
  }
});

const CAUSED = new Set([
  "alert_firing",
  "alert_resolved",
  "retraining_started",
  "retraining_refused",
  "retraining_superseded",
  "muted",
  "unmuted",
  "watch_firing",
]);

const newestFirst = (events) => [...events].sort((a, b) => b.seq - a.seq);

function draw(event, fresh) {
  const [words, kind] = eventWords(event.event);
  const details = Object.entries(event).filter(
    ([name, value]) => !SHOWN_ELSEWHERE.has(name) && value !== null && value !== undefined,
  );
  return h(
    "li",
    { class: fresh ? "event fresh" : "event", data: { seq: event.seq } },
    h("span", { class: "when" }, moment(event.time)),
    h(
      "div",
      { class: "what" },
      h(
        "p",
        { class: "event-head" },
        tag(words, kind),
        event.who && h("span", { class: "by" }, "by ", h("strong", {}, event.who)),
        h("span", { class: "note" }, brief(event)),
      ),
      event.reason && h("p", { class: "reason" }, event.reason),
      details.length
        ? h(
            "details",
            {},
            h("summary", {}, `Event ${number(event.seq)}`),
            h(
              "dl",
              { class: "pairs" },
              details.map(([name, value]) =>
                pair(name.replaceAll("_", " "), typeof value === "object" ? JSON.stringify(value) : String(value)),
              ),
            ),
          )
        : h("p", { class: "note number" }, `Event ${number(event.seq)}`),
    ),
  );
}

/** The one or two details that tell events of a kind apart. */
function brief(event) {
  return [
    event.model_version && `model ${event.model_version}`,
    event.verdict && event.verdict.replaceAll("_", " "),
    event.step,
    { approve: "approved", reject: "rejected" }[event.answer],
    event.count !== undefined && count(event.count, "run"),
    event.cause && CAUSED.has(event.event) && causeWords(event.cause),
  ]
    .filter(Boolean)
    .join(" · ");
}
