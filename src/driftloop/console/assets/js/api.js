// Talks to the public API: JSON in, JSON out, refusals as errors that say what to do.

/** A refusal of the API, or that it could not be reached (`status` 0). */
export class ApiError extends Error {
  constructor(status, title, detail, body = null) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.body = body;
  }
}

let csrf = null;

/** Who is looking: `{name, role, how}`. */
export async function whoAmI() {
  const me = await get("/me");
  csrf = me.csrf ?? null;
  return me;
}

export const get = (path, query = {}) => call("GET", path + queryText(query));
export const post = (path, body = {}) => call("POST", path, body);
export const remove = (path, body = undefined) => call("DELETE", path, body);

/** The path of something of a fleet, in the API and of its page: `of("cmapss", "units", name)`; each part is escaped. */
export const of = (fleet, ...parts) =>
  ["/fleets", fleet, ...parts].map((part, index) => (index ? encodeURIComponent(part) : part)).join("/");

/** The page to sign in on, which leads back to this one. */
export const signInPath = () => `/login?next=${encodeURIComponent(location.pathname + location.search)}`;

/** A query as text; of a list, each by itself. */
function queryText(query) {
  const given = Object.entries(query)
    .flatMap(([name, value]) => [value].flat().map((each) => [name, each]))
    .filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new ApiError(
      0,
      "The platform does not answer",
      "It may be starting or the network is down. This page tries again by itself.",
    );
  }
  const text = await answer.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok)
      throw new ApiError(
        answer.status,
        "The answer cannot be read",
        "Something between this page and the platform answered in its place.",
      );
  }
  if (!answer.ok)
    throw new ApiError(answer.status, content?.title ?? `The answer was ${answer.status}`, detailOf(content), content);
  return content;
}

/** What a refusal says, as one text: problem details, or a list of fields with messages. */
function detailOf(content) {
  const detail = content?.detail;
  if (Array.isArray(detail))
    return detail.map((each) => (each.field ? `${each.field}: ${each.message}` : each.message)).join("; ");
  const problems = (content?.problems ?? []).map((each) => `${each.field}: ${each.detail}`).join("; ");
  return [detail, problems].filter(Boolean).join(" – ");
}
