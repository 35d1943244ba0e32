// What belongs together: open and closed incidents, newest first.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { incidentRow } from "./parts.js";

const PAGE = 50;
const SOON_MS = 300;
const STATES = [["", "All"], ["open", "Open"], ["closed", "Closed"]];
const SEVERITIES = [["", "Any severity"], ["critical", "Critical"], ["major", "Major and above"], ["minor", "Minor and above"]];
const ABOVE = { critical: ["critical"], major: ["major", "critical"], minor: ["minor", "major", "critical"] };

export function incidents(root, page) {
  const query = new URLSearchParams(location.search);
  const state = { q: query.get("q") ?? "", state: query.get("state") ?? "", severity: query.get("severity") ?? "", entity: query.get("entity") ?? "", shown: PAGE, waiting: 0 };
  const search = h("input", { type: "search", placeholder: "Search title or entity  /", "aria-label": "Search incidents", value: state.q, maxlength: 200 });
  const states = STATES.map(([value, text]) => h("button", { type: "button", onclick: () => choose({ state: value }) }, text));
  const severity = h("select", { "aria-label": "Severity", onchange: () => choose({ severity: severity.value }) }, SEVERITIES.map(([value, text]) => h("option", { value, selected: value === state.severity }, text)));
  const found = h("span", { class: "soft", role: "status" });
  const pill = h("button", { class: "pill", type: "button", hidden: true, onclick: () => { pill.hidden = true; state.waiting = 0; scrollTo({ top: 0 }); load(); } });
  const list = h("div", { class: "rows" });
  const more = h("button", { type: "button", hidden: true, onclick: () => { state.shown += PAGE; load(); } }, "Show more");
  root.replaceChildren(
    h("div", { class: "heading" }, h("h1", {}, "Incidents"), h("span", { class: "soft" }, "Episodes that belong together, as one trouble")),
    pill, h("div", { class: "tools", role: "search" }, search, ...states, severity, found), list, more);
  let timer = null;
  let typing = null;
  let asked = 0;
  let isClosed = false;

  function choose(change) {
    Object.assign(state, change, { shown: PAGE });
    const text = new URLSearchParams();
    for (const name of ["q", "state", "severity", "entity"]) if (state[name]) text.set(name, state[name]);
    history.replaceState(null, "", text.size ? `/incidents?${text}` : "/incidents");
    load();
  }

  async function load() {
    const turn = ++asked;
    try {
      const answer = await get("/v1/incidents", { q: state.q, state: state.state, severity: ABOVE[state.severity], entity: state.entity, limit: Math.min(500, state.shown) });
      if (turn !== asked || isClosed) return;
      page.clock(answer.clock_ms);
      draw(answer);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
  }

  function draw(answer) {
    states.forEach((button, index) => button.setAttribute("aria-pressed", String(STATES[index][0] === state.state)));
    found.textContent = `${count(answer.total)} ${answer.total === 1 ? "incident" : "incidents"}${state.entity ? ` of ${state.entity}` : ""}`;
    const focused = document.activeElement?.getAttribute?.("href");
    const isFiltered = state.q || state.state || state.severity || state.entity;
    const nothing = isFiltered
      ? "No incident matches. Clear the search, or choose All."
      : "No incident so far. `lapwing incidents` writes them; it has to run beside the predictors.";
    list.replaceChildren(...(answer.incidents.length ? answer.incidents.map((one) => incidentRow(one, answer.clock_ms)) : [h("p", { class: "empty" }, nothing)]));
    if (focused) list.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    more.hidden = answer.incidents.length >= answer.total || state.shown >= 500;
  }

  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => choose({ q: search.value.trim() }), 150); });
  load();
  return {
    search,
    stream: ["incidents", null],
    incident(event) {
      if (scrollY > 160 && event.change === "opened") {
        state.waiting += 1;
        pill.textContent = `${state.waiting} new`;
        pill.hidden = false;
      } else timer ??= setTimeout(() => { timer = null; load(); }, SOON_MS);
    },
    reload: load,
    close() { isClosed = true; clearTimeout(timer); clearTimeout(typing); },
  };
}
