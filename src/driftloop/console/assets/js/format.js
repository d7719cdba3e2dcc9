// Numbers with their units, and times in the reader's own zone.

import { h } from "./dom.js";

const NONE = "–";

/** A number with so many digits after the point; a dash for none. */
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** A whole number and its noun, as it reads: `1 engine`, `1,204 engines`, `1 hour` of 0.6. */
export function count(value, noun) {
  return `${number(value)} ${Math.round(value) === 1 ? noun : plural(noun)}`;
}

/** A noun with its article: `an engine`, `a pump`. */
export const one = (noun) => `${/^[aeiou]/i.test(noun) ? "an" : "a"} ${noun}`;

/** A noun at the beginning of a heading. */
export const capital = (noun) => `${noun.charAt(0).toUpperCase()}${noun.slice(1)}`;

/** Several of a noun. */
export function plural(noun) {
  if (/(s|x|ch|sh)$/.test(noun)) return `${noun}es`;
  return /[^aeiou]y$/.test(noun) ? `${noun.slice(0, -1)}ies` : `${noun}s`;
}

/** A share as a percentage. */
export function percent(share, digits = 0) {
  return share === null || share === undefined ? NONE : `${number(100 * share, digits)} %`;
}

/** Bytes as people read them. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  return value < 2 ** 30 ? `${number(value / 2 ** 20)} MiB` : `${number(value / 2 ** 30, 1)} GiB`;
}

/** A length of time: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 days`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const left = Math.max(0, seconds);
  if (left < 10) return `${number(left, 1)} s`;
  const whole = Math.round(left);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return [`${Math.floor(whole / 60)} min`, whole % 60 ? `${whole % 60} s` : ""].join(" ").trim();
  if (whole < 48 * 3600)
    return [
      `${Math.floor(whole / 3600)} h`,
      Math.floor((whole % 3600) / 60) ? `${Math.floor((whole % 3600) / 60)} min` : "",
    ]
      .join(" ")
      .trim();
  return `${number(whole / 86400)} days`;
}

/** How long ago, in words. */
function ago(time) {
  const seconds = (Date.now() - new Date(time).getTime()) / 1000;
  return seconds < 10
    ? "just now"
    : `${duration(seconds < 60 ? Math.max(10, Math.round(seconds)) : seconds < 7200 ? 60 * Math.round(seconds / 60) : seconds)} ago`;
}

/** A time in the reader's zone, with its date where that is not today; UTC when the pointer rests on it. */
export function moment(time, { relative = false, seconds = true } = {}) {
  if (!time) return NONE;
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const today = at.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}), hour12: false };
  const local = today
    ? at.toLocaleTimeString("en-GB", clock)
    : at.toLocaleString("en-GB", {
        day: "numeric",
        month: "short",
        year: at.getFullYear() === new Date().getFullYear() ? undefined : "numeric",
        ...clock,
      });
  const utc = `${at
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "")} UTC`;
  return h(
    "time",
    { datetime: at.toISOString(), title: relative ? `${local} here, ${utc}` : utc },
    relative ? ago(time) : local,
  );
}
