// Whether an incident was real: what was said, and a form to say it. Texts are data, never markup.

import { get, send } from "./api.js";
import { h } from "./dom.js";
import { moment } from "./format.js";

const WAS = { real: "It was real", noise: "It was noise" };
const MOST_NOTE = 1000;

// A section that a view keeps while it draws itself again: what was typed stays, and its focus.
export function feedbackSection(page) {
  const element = h("section");
  let asked = null;
  return {
    element,
    isTyping: () => element.contains(document.activeElement),
    load(incidentId, isTyping) {
      if (isTyping) element.querySelector("input")?.focus({ preventScroll: true });
      if (asked === incidentId) return;
      asked = incidentId;
      fill(element, incidentId, page).catch((error) => { asked = null; page.fail(error); });
    },
  };
}

async function fill(element, incidentId, page) {
  const path = `/v1/feedback/${encodeURIComponent(incidentId)}`;
  const note = h("input", { type: "text", maxlength: MOST_NOTE, "aria-label": "Note", placeholder: "Why, or what it was (optional)" });
  const status = h("p", { class: "soft", role: "status" });

  function show({ feedback: given, read_only: isReadOnly }) {
    const author = given?.author ? ` by ${given.author}` : "";
    status.textContent = given ? `${WAS[given.was] ?? given.was}, said on ${moment(given.written_at)}${author}.` : "Nobody has said yet whether it was real.";
    note.value = given?.note ?? "";
    note.disabled = isReadOnly;
    form.querySelectorAll("button").forEach((button) => {
      button.hidden = isReadOnly || (button.dataset.was === undefined && !given);
      button.setAttribute("aria-pressed", String(given !== null && given.was === button.dataset.was));
    });
  }

  async function act(method, url, body) {
    try { show(await send(method, url, body)); page.ok(); } catch (error) { page.fail(error); }
  }

  const say = (was) => act("POST", "/v1/feedback", { incident_id: incidentId, was, note: note.value });
  const form = h("form", { class: "feedback" }, note,
    Object.entries(WAS).map(([was, text]) => h("button", { type: "button", "data-was": was, onclick: () => say(was) }, text)),
    h("button", { class: "quiet", type: "button", onclick: () => act("DELETE", path) }, "Take back"));
  form.addEventListener("submit", (event) => event.preventDefault());
  show(await get(path));
  element.replaceChildren(h("h2", {}, "Was it real?"), status, form);
}
