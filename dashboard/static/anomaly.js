// Why: the sentence, value against expected, contributions, and the window before and after.

import { get } from "./api.js";
import { marksOf, metricChart } from "./chart.js";
import { anomalyRow, command, legend, similarRow } from "./parts.js";
import { anomalyUrl, entityUrl, h, incidentUrl, mark } from "./dom.js";
import { feedbackSection } from "./feedback.js";
import { count, duration, episodeText, moment, number, severityClass, utc } from "./format.js";

const HOUR = 3_600_000;
const BEFORE = 12 * HOUR;
const AFTER = 4 * HOUR;

export function anomaly(root, page, id) {
  const plots = [];
  const said = feedbackSection(page);
  const neighbours = { next: null, previous: null };
  let timer = null;
  let isClosed = false;
  let about = null;

  async function load() {
    try {
      const event = await get(`/v1/anomalies/${encodeURIComponent(id)}`);
      const entity = await get(`/v1/entities/${encodeURIComponent(event.entity)}`).catch(() => null);
      if (isClosed) return;
      about = event;
      draw(event, entity?.last_ms ?? event.event_time);
      page.ok();
      const others = await get("/v1/anomalies", { before: `${event.event_time}:${event.event_id}`, limit: 1 });
      neighbours.next = others.anomalies[0]?.event_id ?? null;
    } catch (error) {
      page.fail(error);
    }
  }

  function draw(event, clockMs) {
    const { episode } = event;
    const severity = event.severity === null ? "info" : severityClass(event.severity);
    const zoom = { from: event.event_time - BEFORE, to: event.event_time + AFTER };
    const facts = [
      ["value", number(event.value)], ["expected", number(event.expected)],
      ["band", event.lower === null ? "–" : `${number(event.lower)} to ${number(event.upper)}`],
      ["score", event.score === null ? "–" : `${number(event.score)}, threshold ${number(event.threshold)}`],
      ["severity", event.severity === null ? "–" : `${number(event.severity)} ${event.severity_class}`],
    ];
    const title = event.kind === "anomaly" ? event.metric ?? "several metrics" : event.kind.replaceAll("_", " ");
    const keys = h("div", {}, legend());
    const charts = h("div");
    const isTyping = said.isTyping();
    const alike = h("section");
    const earlier = h("div");
    root.replaceChildren(
      h("div", { class: "heading" }, mark(severity, event.severity_class ?? event.kind),
        h("h1", {}, h("a", { href: `${entityUrl(event.entity)}?from=${zoom.from}&to=${zoom.to}` }, event.entity)),
        h("span", { class: "soft" }, title),
        h("span", { class: "soft", title: utc(event.event_time) }, moment(event.event_time)),
        h("span", { class: "soft" }, episode ? episodeText(episode, clockMs) : ""),
        event.incident_id ? h("a", { href: incidentUrl(event.incident_id) }, "its incident") : null),
      h("p", { class: "sentence" }, event.reason, event.reason.endsWith(".") ? "" : "."),
      h("dl", { class: "numbers" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      keys, charts,
      h("div", { class: "two" }, h("div", {}, shares(event), explain(event)), timeline(event), source(event)), said.element, alike, earlier);
    window_(event, charts, keys, zoom, clockMs);
    similar(event, alike).catch(page.fail);
    if (event.incident_id) said.load(event.incident_id, isTyping);
    before(event, earlier, clockMs);
  }

  async function window_(event, charts, keys, zoom, clockMs) {
    const first = Math.min(zoom.from, (event.episode?.start_ms ?? zoom.from) - HOUR);
    const width = Math.max(64, Math.round(charts.clientWidth || 800));
    const metric = event.metric ? [event.metric] : [];
    const answer = await get("/v1/series", { entity: event.entity, metric, from: first, to: zoom.to, width });
    if (isClosed) return;
    plots.splice(0).forEach((plot) => plot.destroy());
    keys.replaceChildren(legend(marksOf(answer.metrics, answer.verdicts, answer.models)));
    for (const chart of answer.metrics) {
      const context = {
        fromMs: answer.from_ms, toMs: answer.to_ms, lastMs: clockMs, focusMs: event.event_time, syncKey: id, models: answer.models, verdicts: answer.verdicts,
        episodes: answer.episodes.filter((episode) => episode.metric === chart.metric || episode.metric === null),
      };
      const url = (from, to) => page.go(`${entityUrl(event.entity)}?from=${from}&to=${to}`);
      const plot = metricChart(chart, context, { zoom: url });
      plots.push(plot);
      charts.append(plot.element);
    }
  }

  function shares(event) {
    const entries = Object.entries(event.attributions).sort((a, b) => b[1] - a[1]).slice(0, 10);
    if (!entries.length) return h("section", {}, h("h2", {}, "Contributions"), h("p", { class: "empty" }, event.cold_start ? "Raised before the end of the warm-up, by the robust band alone." : "None: the verdict is about the data itself."));
    const rows = entries.flatMap(([name, share]) => {
      const fill = h("div", { class: "fill" });
      fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
      return [h("span", {}, name), h("div", { class: "track" }, fill), h("span", { class: "right" }, `${Math.round(share * 100)} %`)];
    });
    return h("section", {}, h("h2", {}, "Contributions to the score"), h("div", { class: "shares" }, rows));
  }

  function explain(event) {
    return h("section", {}, h("h2", {}, "Explain it again"), h("p", { class: "soft" }, "Recomputes this verdict from the entity's own records:"), command(`lapwing explain ${event.event_id}`));
  }

  function timeline(event) {
    if (!event.records.length) return null;
    const phases = { open: "opened", worse: "became worse", closed: "ended" };
    const rows = event.records.map((record) => h("tr", {},
      h("td", { title: utc(record.time_ms) }, moment(record.time_ms)),
      h("td", {}, record.event_id === event.event_id ? `${phases[record.phase] ?? record.phase}: this one` : h("a", { href: anomalyUrl(record.event_id) }, phases[record.phase] ?? record.phase)),
      h("td", {}, record.severity === null ? "" : record.severity_class)));
    const peak = event.episode?.peak_time_ms ? `Most severe at ${moment(event.episode.peak_time_ms)}: ${number(event.episode.peak_value)}.` : "";
    return h("section", {}, h("h2", {}, "Course of the episode"), h("table", {}, h("tbody", {}, rows)), h("p", { class: "soft" }, peak));
  }

  function source(event) {
    const where = `${event.source_topic}[${event.source_partition}]@${event.source_offset}`;
    const facts = [
      ["event time", `${utc(event.event_time)}`], ["detector", event.detector_id],
      ["model", event.model_id ? `${event.model_id}, trained up to ${event.model_version}` : "no trained model was involved"],
      ["state", event.state + (event.cold_start ? ", cold start" : "")], ["direction", event.direction ?? "–"],
      ["input record", where], ["event id", h("span", { class: "id" }, event.event_id)],
      ["late", event.late_by_ms === null ? "no" : `by ${duration(event.late_by_ms)}`],
    ];
    return h("section", {}, h("h2", {}, "Source"), h("dl", { class: "facts" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }

  async function similar(event, target) {
    const answer = await get(`/v1/anomalies/${encodeURIComponent(event.event_id)}/similar`);
    if (isClosed) return;
    const none = answer.incident_id === null ? "Nothing to compare with: `lapwing incidents` has not written its incident, or the alarm names no metric." : `None of ${count(answer.compared)} episodes that are kept.`;
    target.replaceChildren(h("h2", {}, "Similar past anomalies"),
      answer.similar.length ? h("div", { class: "rows" }, answer.similar.map(similarRow)) : h("p", { class: "empty" }, none));
  }

  async function before(event, target, clockMs) {
    const answer = await get("/v1/anomalies", { entity: event.entity, metric: event.metric, before: `${event.event_time}:${event.event_id}`, limit: 20 });
    const rows = answer.anomalies.filter((one) => one.phase === "open" && one.episode_id !== event.episode_id).slice(0, 5);
    target.replaceChildren(h("h2", {}, `Earlier on ${event.metric ?? "this entity"}`), rows.length ? h("div", { class: "rows" }, rows.map((one) => anomalyRow(one, clockMs, true))) : h("p", { class: "empty" }, "None in the history that is kept."));
  }

  load();
  return {
    stream: ["anomaly", null],
    anomaly(event) {
      if (event.episode_id && event.episode_id === about?.episode_id) timer ??= setTimeout(() => { timer = null; load(); }, 300);
    },
    walk(step) {
      if (step > 0 && neighbours.next) page.go(anomalyUrl(neighbours.next));
      if (step < 0) history.back();
    },
    reload: load,
    redraw: () => plots.forEach((plot) => plot.redraw()),
    close() { isClosed = true; clearTimeout(timer); plots.forEach((plot) => plot.destroy()); },
  };
}
