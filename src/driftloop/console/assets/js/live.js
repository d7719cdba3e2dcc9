// What happens, as it happens: the API's stream of events, resumed where it was cut, each event once.
//
// Read by fetch instead of EventSource, because that gives up for good on any answer but success, such as a proxy's
// while the platform restarts, and never notices a connection that has gone silent.

const SILENCE_MS = 25_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** A connection that lasted so long may be opened again at once. */
const LASTING_MS = 10_000;
/** A page that nobody sees lets its connection go: a browser has six for one address, and people leave pages open. */
const HIDDEN_MS = 30_000;

/**
 * Listen to a fleet's stream, or to all fleets' where `fleet` is null, for as long as the page is there. `from` is the
 * id of the last event that is known. `on` may have `event(event, id)`, `state(fleet)`, `cut(since)`, `resumed(again)`,
 * `refused(status)`.
 */
export function listen(fleet, on, from = null) {
  let last = from;
  const newest = new Map();
  let cutSince = null;
  let pause = FIRST_PAUSE_MS;
  let controller = null;
  let wake = null;
  // A page that is opened behind others takes none of the connections that those need.
  let resting = document.hidden;
  let opened = resting;
  let restTimer = null;

  async function run() {
    for (;;) {
      if (resting) {
        await new Promise((resolve) => (wake = resolve));
        continue;
      }
      const began = Date.now();
      try {
        await once();
        // The platform has ended it, as it does from time to time: nothing is cut yet.
        if (Date.now() - began > LASTING_MS) continue;
      } catch {
        // Cut, silent or refused: told of below, and tried again.
      }
      if (resting) continue;
      // While nobody looks nobody is told: whoever does then gets the present, or is told at once.
      if (cutSince === null && !document.hidden) {
        cutSince = new Date();
        on.cut?.(cutSince);
      }
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause * (0.75 + Math.random() / 2));
      });
      pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
    }
  }

  async function once() {
    controller = new AbortController();
    let silence = setTimeout(() => controller.abort(), SILENCE_MS);
    try {
      const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
      const query = fleet === null ? "" : `?fleet=${encodeURIComponent(fleet)}`;
      const answer = await fetch(`/api/v1/events/stream${query}`, {
        headers,
        signal: controller.signal,
        cache: "no-store",
        credentials: "same-origin",
      });
      if (!answer.ok) {
        on.refused?.(answer.status);
        throw new Error(`status ${answer.status}`);
      }
      pause = FIRST_PAUSE_MS;
      on.resumed?.(opened);
      opened = true;
      cutSince = null;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => controller.abort(), SILENCE_MS);
        const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
        rest = blocks.pop();
        blocks.forEach(take);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  function take(block) {
    const fields = { event: "message", data: [] };
    for (const line of block.split("\n")) {
      const found = /^(event|data|id): ?(.*)$/.exec(line);
      if (!found) continue;
      if (found[1] === "data") fields.data.push(found[2]);
      else fields[found[1]] = found[2];
    }
    if (fields.id !== undefined) last = fields.id;
    if (!fields.data.length) return;
    let content;
    try {
      content = JSON.parse(fields.data.join("\n"));
    } catch {
      return;
    }
    if (fields.event === "event" && isNew(content)) on.event?.(content, fields.id);
    if (fields.event === "state") on.state?.(content);
  }

  /** Whether an event was not told before; numbers begin anew only where the platform's state was made anew. */
  function isNew({ fleet: of = fleet, seq, time }) {
    const before = newest.get(of);
    if (before && seq <= before.seq && time <= before.time) return false;
    newest.set(of, { seq, time });
    return true;
  }

  const again = () => wake?.();
  const rest = () => {
    clearTimeout(restTimer);
    if (document.hidden) {
      restTimer = setTimeout(() => {
        resting = true;
        controller?.abort();
      }, HIDDEN_MS);
    } else if (resting) {
      resting = false;
      again();
    }
  };
  const lost = () => controller?.abort();
  addEventListener("online", again);
  addEventListener("offline", lost);
  document.addEventListener("visibilitychange", rest);
  run();
}
