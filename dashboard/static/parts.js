// Pieces that several views share.

import { anomalyUrl, h, mark } from "./dom.js";
import { episodeText, moment, severityClass, utc } from "./format.js";

export function legend() {
  return h("p", { class: "legend" },
    h("span", {}, h("span", { class: "key" }), "value"), h("span", {}, h("span", { class: "key dash" }), "expected"),
    h("span", {}, h("span", { class: "key fill" }), "band"),
    ...["info", "minor", "major", "critical"].map((severity) => h("span", {}, mark(severity), ` ${severity}`)),
    h("span", {}, "Drag to zoom, double-click to reset"));
}

export function anomalyRow(event, clockMs, isOfEntity) {
  const severity = severityClass(event.episode?.peak_severity ?? event.severity ?? 0);
  const title = isOfEntity ? event.metric ?? "several metrics" : event.entity;
  return h("a", { href: anomalyUrl(event.event_id), "data-item": true },
    mark(severity), h("span", { class: "soft", title: utc(event.event_time) }, moment(event.event_time)),
    h("span", {}, h("b", {}, title), " ", event.reason),
    h("span", { class: "soft" }, event.phase === "worse" ? "worse" : episodeText(event.episode, clockMs)));
}
