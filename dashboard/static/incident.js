// One incident: how bad, since when, which entities, and its episodes on one time axis.

import { get } from "./api.js";
import { metricChart } from "./chart.js";
import { anomalyUrl, entityUrl, h, mark } from "./dom.js";
import { feedbackSection } from "./feedback.js";
import { legend } from "./parts.js";
import { BECAUSE, duration, incidentText, moment, number, severityClass, utc } from "./format.js";

const HOUR = 3_600_000;
const CHARTS = 3;
const LISTED = 12;
const SOON_MS = 300;

export function incident(root, page, id) {
  const said = feedbackSection(page);
  const plots = [];
  let timer = null;
  let isClosed = false;

  async function load() {
    try {
      const found = await get(`/v1/incidents/${encodeURIComponent(id)}`);
      if (isClosed) return;
      page.clock(found.clock_ms);
      draw(found);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
  }

  function draw(found) {
    const clockMs = Math.max(found.clock_ms ?? 0, found.start);
    const facts = [
      ["state", found.end === null ? "open" : BECAUSE[found.closed_because] ?? found.closed_because],
      [found.end === null ? "open for" : "took", duration((found.end ?? clockMs) - found.start)],
      ["severity", `${number(found.severity)} ${found.severity_class}`],
      ["most severe", found.peak_value === null ? moment(found.peak_time) : `${number(found.peak_value)} at ${moment(found.peak_time).slice(5)}`],
      ["episodes", found.open_count ? `${found.episode_count}, ${found.open_count} open` : found.episode_count],
    ];
    document.title = `${found.title} – Lapwing`;
    const charts = h("div");
    const isTyping = said.isTyping();
    root.replaceChildren(
      h("div", { class: "heading" }, mark(found.severity_class), h("h1", {}, found.title),
        h("span", { class: "soft", title: utc(found.start) }, `since ${moment(found.start)}`)),
      h("p", { class: "sentence" }, found.reason, found.reason.endsWith(".") ? "" : "."),
      h("dl", { class: "numbers" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      h("dl", { class: "facts" },
        h("dt", {}, found.entity_count === 1 ? "entity" : `${found.entity_count} entities`), h("dd", {}, names(found.entities, (name) => h("a", { href: entityUrl(name) }, name))),
        h("dt", {}, found.metric_count === 1 ? "metric" : `${found.metric_count} metrics`), h("dd", {}, names(found.metrics, (name) => name) || "–"),
        h("dt", {}, "incident id"), h("dd", { class: "id" }, found.incident_id)),
      said.element,
      h("h2", {}, "Episodes"), timeline(found, clockMs),
      h("h2", {}, "The worst of it"), legend(), charts);
    said.load(id, isTyping);
    worst(found, charts, clockMs);
  }

  function names(all, one) {
    const shown = all.slice(0, LISTED).flatMap((name, index) => (index ? [", ", one(name)] : [one(name)]));
    return all.length > LISTED ? [...shown, ` and ${all.length - LISTED} more`] : shown;
  }

  function timeline(found, clockMs) {
    const end = Math.max(found.end ?? clockMs, found.start + 1);
    const share = (ms) => `${Math.max(0, Math.min(1, (ms - found.start) / (end - found.start))) * 100}%`;
    const rows = found.episodes.map((episode) => {
      const severity = severityClass(episode.severity);
      const bar = h("span", { class: `span ${severity}` });
      bar.style.left = share(episode.start);
      bar.style.right = `calc(100% - ${share(episode.end ?? clockMs)})`;
      const until = episode.end === null ? "open" : `${moment(episode.end).slice(5)}, ${BECAUSE[episode.closed_because] ?? episode.closed_because}`;
      const content = [
        mark(severity), h("span", {}, h("b", {}, episode.entity), h("span", { class: "soft" }, ` · ${episode.metric ?? episode.kind}`)),
        h("span", { class: "track" }, bar), h("span", { class: "soft when", title: utc(episode.start) }, `${moment(episode.start).slice(5)} to ${until}`)];
      return episode.event_id ? h("a", { href: anomalyUrl(episode.event_id), title: episode.reason, "data-item": true }, content) : h("div", { class: "row", title: episode.reason }, content);
    });
    return h("div", { class: "rows episodes" }, rows);
  }

  async function worst(found, charts, clockMs) {
    const chosen = new Map();
    for (const one of [...found.episodes].sort((a, b) => b.severity - a.severity)) {
      const key = `${one.entity} ${one.metric}`;
      if (one.metric !== null && !chosen.has(key) && chosen.size < CHARTS) chosen.set(key, one);
    }
    plots.splice(0).forEach((plot) => plot.destroy());
    const span = Math.max(HOUR, (found.end ?? clockMs) - found.start);
    const range = { from: found.start - Math.max(6 * HOUR, span), to: (found.end ?? clockMs) + Math.max(2 * HOUR, span / 4) };
    const width = Math.max(64, Math.round(charts.clientWidth || 800));
    for (const one of chosen.values()) {
      const answer = await get("/v1/series", { entity: one.entity, metric: [one.metric], ...range, width }).catch(() => null);
      if (isClosed) return;
      if (!answer) continue;
      for (const chart of answer.metrics) {
        const context = {
          title: `${one.entity} · ${chart.metric}`, fromMs: answer.from_ms, toMs: answer.to_ms, lastMs: clockMs, syncKey: id, models: answer.models, verdicts: answer.verdicts,
          episodes: answer.episodes.filter((episode) => episode.metric === chart.metric || episode.metric === null),
        };
        const plot = metricChart(chart, context, { zoom: (from, to) => page.go(`${entityUrl(one.entity)}?from=${from}&to=${to}`) });
        plots.push(plot);
        charts.append(plot.element);
      }
    }
    if (!plots.length) charts.append(h("p", { class: "empty" }, "The history has no values of these metrics."));
  }

  load();
  return {
    stream: ["incidents", null],
    incident(event) { if (event.incident_id === id) timer ??= setTimeout(() => { timer = null; load(); }, SOON_MS); },
    reload: load,
    redraw: () => plots.forEach((plot) => plot.redraw()),
    close() { isClosed = true; clearTimeout(timer); plots.forEach((plot) => plot.destroy()); },
  };
}
