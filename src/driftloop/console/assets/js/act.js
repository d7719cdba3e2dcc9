// What a person does: asked to confirm in a dialog, carried out, and told what became of it.

import { signInPath } from "./api.js";
import { button, fill, h } from "./dom.js";
import { refusalWords } from "./words.js";

/** What most acts ask for. */
export const REASON = { name: "reason", label: "Why (others will read it)", kind: "textarea", required: true };

/** Whether somebody may do what needs `role`. */
export const may = (me, role) => me.role === role || me.role === "admin";

/** Why somebody may not, with a way to change that; null where she may. */
export function notAllowed(me, role) {
  if (may(me, role)) return null;
  return h(
    "p",
    { class: "not-allowed" },
    `You look as “${me.name}” (${me.role}). To act here you need the role ${role}. `,
    h("a", { href: signInPath() }, "Sign in as somebody else"),
  );
}

/**
 * Ask, then act. `fields` are `[{name, label, kind: "text"|"textarea"|"select", options, value, required, hint}]`;
 * `run(values)` carries it out and returns what to say; `after()` is called whatever became of it.
 */
export function ask({ title, text, verb, danger = false, fields = [], run, after = null }) {
  const problem = h("div", {});
  const controls = fields.map(field);
  const go = h("button", { type: "submit", class: danger ? "primary danger" : "primary" }, verb);
  const cancel = button("Cancel", () => dialog.close());
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "ask-title" }, title),
    h("div", { class: "ask-text", id: "ask-text" }, text),
    controls.map((each) => each.node),
    problem,
    h("div", { class: "actions" }, cancel, go),
  );
  const dialog = h("dialog", { "aria-labelledby": "ask-title", "aria-describedby": "ask-text", class: "ask" }, form);
  const opener = document.activeElement;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(controls.map((each) => [each.name, each.value()]));
    go.disabled = true;
    go.setAttribute("aria-busy", "true");
    try {
      const said = await run(values);
      dialog.close();
      tell(said ?? "Done.", "good");
    } catch (error) {
      fill(problem, refused(error));
      go.disabled = error.status === 409;
      if (error.status === 409) cancel.textContent = "Close";
    } finally {
      go.removeAttribute("aria-busy");
      after?.();
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (controls[0]?.control ?? cancel).focus();
}

const TITLES = {
  0: "The platform does not answer",
  403: "Your role may not do this",
  401: "Please sign in first",
  404: "It is not there any more",
  409: "Somebody was faster, or things have changed",
  413: "That is too long",
  422: "What you have written does not fit",
  429: "Too much was asked at once",
  503: "This cannot be done now",
};

/** What became of an act that was refused; `titles` by status. */
export function refused(error, titles = TITLES) {
  const title = titles[error.status] ?? "That did not work";
  return h(
    "div",
    { class: "refused", role: "alert" },
    h("strong", {}, title),
    h("p", {}, refusalWords(error)),
  );
}

/** A field of a form: its `node`, its `control` and its `value()`; `attributes` are more of the control's own. */
export function field({
  name,
  label,
  kind = "text",
  options = [],
  value = "",
  required = false,
  hint = null,
  attributes = {},
}) {
  const id = `field-${name}`;
  const shared = { id, name, required, "aria-describedby": hint ? `${id}-hint` : null };
  const control =
    kind === "select"
      ? h(
          "select",
          shared,
          options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
        )
      : h(kind === "textarea" ? "textarea" : "input", {
          ...shared,
          value,
          ...(kind === "textarea" ? { rows: 2 } : { type: kind, autocomplete: "off" }),
          ...attributes,
        });
  return {
    name,
    control,
    value: () => control.value.trim(),
    node: h(
      "div",
      { class: "field" },
      h("label", { for: id }, label),
      control,
      hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    ),
  };
}

/** Say what became of an act; it stays until it is closed or long enough to have been read. */
export function tell(text, kind = "info") {
  const box =
    document.getElementById("told") ??
    document.body.appendChild(h("div", { id: "told", role: "status", "aria-live": "polite" }));
  const note = h(
    "div",
    { class: `toast ${kind}` },
    h("span", {}, text),
    button("×", () => note.remove(), { "aria-label": "Close this message" }),
  );
  box.append(note);
  setTimeout(() => note.remove(), 12_000);
}
