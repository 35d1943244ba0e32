// What it should have been: every metric with its expected value, band and episodes.

import { get } from "./api.js";
import { marksOf, metricChart } from "./chart.js";
import { anomalyRow, legend } from "./parts.js";
import { h, mark } from "./dom.js";
import { count, duration, moment, severityClass, utc } from "./format.js";

const HOUR = 3_600_000;
const RANGES = [["6 h", 6], ["24 h", 24], ["3 d", 72], ["7 d", 168], ["30 d", 720]];
const REFRESH_MS = 1000;

export function entity(root, page, name) {
  const query = new URLSearchParams(location.search);
  const time = (key) => (query.get(key) ? Number(query.get(key)) || Date.parse(query.get(key)) || null : null);
  const state = { from: time("from"), to: time("to"), hours: Number(query.get("hours")) || 24, metrics: query.getAll("metric"), lastMs: null };
  const heading = h("div", { class: "heading" }, h("h1", {}, name));
  const ranges = RANGES.map(([text, hours]) => h("button", { type: "button", onclick: () => go({ from: null, to: null, hours }) }, text));
  const back = h("button", { type: "button", onclick: () => history.back(), hidden: true }, "Undo zoom");
  const shown = h("span", { class: "soft" });
  const keys = h("div", {}, legend());
  const charts = h("div");
  const list = h("div");
  const verdicts = h("div");
  root.replaceChildren(heading, h("div", { class: "tools" }, ...ranges, back, shown), keys, charts, list, verdicts);

  const plots = new Map();
  let timer = null;
  let asked = 0;
  let listed = "";

  function go(change, replace = false) {
    Object.assign(state, change);
    const text = new URLSearchParams();
    if (state.from && state.to) { text.set("from", state.from); text.set("to", state.to); }
    else if (state.hours !== 24) text.set("hours", state.hours);
    state.metrics.forEach((metric) => text.append("metric", metric));
    const url = text.size ? `${location.pathname}?${text}` : location.pathname;
    history[replace ? "replaceState" : "pushState"]({ zoom: true }, "", url);
    load();
  }

  async function load() {
    const number = ++asked;
    const width = Math.min(2000, Math.max(64, Math.round(charts.clientWidth || 800)));
    try {
      let { from, to } = state;
      if (!from || !to) {
        to = state.lastMs ?? (await get(`/v1/entities/${encodeURIComponent(name)}`)).last_ms;
        from = to - state.hours * HOUR;
      }
      const answer = await get("/v1/series", { entity: name, metric: state.metrics, from, to, width });
      if (number !== asked) return;
      if (!state.from && answer.entity.last_ms !== to) { state.lastMs = answer.entity.last_ms; return load(); }
      state.lastMs = answer.entity.last_ms;
      draw(answer);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
    return undefined;
  }

  function draw(answer) {
    const { entity: about } = answer;
    const severity = about.open_episodes ? severityClass(about.open_severity) : "info";
    const facts = [about.state === "WARMING" ? `warming up, ${Math.round(about.warmup_percent ?? 0)} %` + (about.warmup_minutes_left ? `, about ${duration(about.warmup_minutes_left * 60_000)} left` : "") : about.state === "STALE" ? "silent" : "ready"];
    facts.push(about.open_episodes ? `${about.open_episodes} open` : "nothing open", `${count(about.records)} records`, about.model_id ? `model ${about.model_id}` : "no trained model");
    heading.replaceChildren(mark(severity), h("h1", {}, name), h("span", { class: "soft" }, facts.join(" · ")), h("span", { class: "soft", title: utc(about.last_ms) }, `newest ${moment(about.last_ms)}`));
    ranges.forEach((button, index) => button.setAttribute("aria-pressed", String(!state.from && RANGES[index][1] === state.hours)));
    back.hidden = !state.from;
    shown.textContent = `${moment(answer.from_ms)} to ${moment(answer.to_ms)}${state.from ? "" : ", following live"}`;
    const names = new Set(answer.metrics.map((chart) => chart.metric));
    for (const [metric, plot] of plots) if (!names.has(metric)) { plot.destroy(); plot.element.remove(); plots.delete(metric); }
    for (const chart of answer.metrics) {
      const context = {
        fromMs: answer.from_ms, toMs: answer.to_ms, lastMs: about.last_ms, syncKey: name, models: answer.models, verdicts: answer.verdicts,
        episodes: answer.episodes.filter((episode) => episode.metric === chart.metric || episode.metric === null),
      };
      const plot = plots.get(chart.metric);
      if (plot) plot.update(chart, context);
      else {
        const made = metricChart(chart, context, { zoom: (from, to) => go({ from, to }), reset: () => go({ from: null, to: null }) });
        plots.set(chart.metric, made);
        charts.append(made.element);
      }
    }
    keys.replaceChildren(legend(marksOf(answer.metrics, answer.verdicts, answer.models)));
    if (!answer.metrics.some((chart) => chart.points)) shown.textContent += ". No data in this range.";
    anomalies(answer);
  }

  async function anomalies(answer) {
    const key = JSON.stringify([answer.episodes, answer.verdicts.length, state.from]);
    if (key === listed) return;
    listed = key;
    const events = (await get("/v1/anomalies", { entity: name, from: answer.from_ms, to: answer.to_ms, limit: 50 })).anomalies;
    list.replaceChildren(h("h2", {}, "Anomalies in this range"), events.length ? h("div", { class: "rows" }, events.map((event) => anomalyRow(event, answer.entity.last_ms, true))) : h("p", { class: "empty" }, "No anomaly in this range."));
    verdicts.replaceChildren(...(answer.verdicts.length ? [h("h2", {}, "Data quality"), h("div", { class: "rows" }, answer.verdicts.slice(-20).reverse().map((one) => h("div", { class: "row" }, mark("info", one.kind), h("span", { class: "soft", title: utc(one.time_ms) }, moment(one.time_ms)), h("span", {}, one.reason), h("span", { class: "soft" }, one.kind.replaceAll("_", " ")))))] : []));
  }

  load();
  return {
    stream: ["entity", name],
    tick() {
      if (!state.from) timer ??= setTimeout(() => { timer = null; if (!document.hidden) { state.lastMs = null; load(); } }, REFRESH_MS);
    },
    reload: load,
    redraw: () => plots.forEach((plot) => plot.redraw()),
    close() { clearTimeout(timer); asked += 1; plots.forEach((plot) => plot.destroy()); },
  };
}
