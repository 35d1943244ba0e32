// Pieces that several views share.

import { anomalyUrl, h, incidentUrl, mark } from "./dom.js";
import { episodeText, incidentText, moment, severityClass, utc } from "./format.js";

const MARKS = { gap: "no data", imputed: "missing, drawn where it was expected", late: "came late", verdict: "data-quality verdict", model: "other model from here on" };

// marks : which further marks the charts show, by the names of MARKS
export function legend(marks = {}) {
  return h("p", { class: "legend" },
    h("span", {}, h("span", { class: "key" }), "value"), h("span", {}, h("span", { class: "key dash" }), "expected"),
    h("span", {}, h("span", { class: "key fill" }), "band"),
    ...["info", "minor", "major", "critical"].map((severity) => h("span", {}, mark(severity), ` ${severity}`)),
    ...Object.entries(MARKS).filter(([name]) => marks[name]).map(([name, text]) => h("span", {}, h("span", { class: `key ${name}` }), text)),
    h("span", {}, "Drag to zoom, double-click to reset"));
}

// A reason that begins with the metric's name, which stands before it in bold already, goes on behind that.
const afterName = (reason, metric) => (metric && reason.startsWith(`${metric} `) ? reason.slice(metric.length + 1) : reason);

export function anomalyRow(event, clockMs, isOfEntity) {
  const severity = severityClass(event.episode?.peak_severity ?? event.severity ?? 0);
  const title = isOfEntity ? event.metric ?? "several metrics" : event.entity;
  return h("a", { href: anomalyUrl(event.event_id), "data-item": true },
    mark(severity), h("span", { class: "soft", title: utc(event.event_time) }, moment(event.event_time)),
    h("span", {}, h("b", {}, title), " ", isOfEntity ? afterName(event.reason, event.metric) : event.reason),
    h("span", { class: "soft" }, event.phase === "worse" ? "worse" : episodeText(event.episode, clockMs)));
}

// An earlier episode that looked alike: when, how similar, where, what it was, how it ended.
export function similarRow(one) {
  const ended = { start_ms: one.start, end_ms: one.end, closed_because: one.closed_because };
  return h("a", { href: one.event_id ? anomalyUrl(one.event_id) : incidentUrl(one.incident_id), "data-item": true },
    mark(one.severity_class), h("span", { class: "soft", title: utc(one.start) }, moment(one.start)),
    h("span", {}, h("b", {}, `${one.entity} · ${one.metric ?? "several metrics"}`), " ", one.was ? `(${one.was}${one.note ? `: ${one.note}` : ""}) ` : "", afterName(one.reason, one.metric)),
    h("span", { class: "soft", title: `distance ${one.distance}` }, `${one.likeness}; ${one.end === null ? "still open" : episodeText(ended)}`));
}

// What an incident is about, beyond its title: "3 entities, 5 metrics".
export function extent(incident) {
  const parts = [[incident.entity_count, "entities"], [incident.metric_count, "metrics"]].filter(([size]) => size > 1);
  return parts.map(([size, name]) => `${size} ${name}`).join(", ");
}

export function incidentRow(incident, clockMs) {
  return h("a", { href: incidentUrl(incident.incident_id), "data-item": true },
    mark(incident.severity_class), h("span", { class: "soft", title: utc(incident.start) }, moment(incident.start)),
    h("span", {}, h("b", {}, incident.title), " ", h("span", { class: "soft" }, incident.reason)),
    h("span", { class: incident.end === null ? "bad" : "soft" }, incidentText(incident, clockMs)));
}

export function table(heads, rows) {
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": heads.join(", ") }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

// A command line to copy; where the browser forbids copying, it is selected instead.
export function command(text) {
  const code = h("code", {}, text);
  const button = h("button", { class: "quiet", type: "button", "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return h("span", { class: "command" }, code, button);
}
