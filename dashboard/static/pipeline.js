// Can I trust it: lag, rates, dead letters by reason, models, and what the page itself waits for.

import { get } from "./api.js";
import { rateChart } from "./chart.js";
import { h } from "./dom.js";
import { count, duration, moment, number } from "./format.js";
import { table } from "./parts.js";

const REFRESH_MS = 2000;
// An achieved rate of more than twice the budget is marked.
const OVER = 2;

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${number(ms / 1000)} s`);
const isOver = (budget) => budget.requested !== null && budget.achieved !== null && budget.achieved > OVER * budget.requested;

export function pipeline(root, page) {
  const body = h("div");
  const rates = rateChart([], "scored", "Results per minute");
  const chart = h("section", {}, h("h2", {}, "Results per minute, by the time they were written"), rates.element);
  root.replaceChildren(h("div", { class: "heading" }, h("h1", {}, "Pipeline"), h("span", { class: "soft" }, "Can the results be trusted?")), body);
  let timer = null;
  let isClosed = false;

  async function load() {
    try {
      const answer = await get("/v1/pipeline");
      if (isClosed) return;
      page.clock(answer.fleet.clock_ms);
      draw(answer);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
    if (!isClosed) { clearTimeout(timer); timer = setTimeout(load, REFRESH_MS); }
  }

  const term = (name, value, kind = null) => h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));

  function draw(answer) {
    const problems = [answer.problem, ...answer.topics.map((one) => one.problem)].filter(Boolean);
    const parts = Object.entries(answer.lag.partitions ?? {});
    const lag = parts.reduce((sum, [, value]) => sum + value, 0);
    const dead = answer.dead_letters.by_reason.reduce((sum, one) => sum + one.count, 0);
    const newest = answer.rates.at(-1);
    const silent = newest ? Date.now() - newest.minute_ms - 60_000 : null;
    rates.update(answer.rates);
    body.replaceChildren(
      ...problems.map((text) => h("p", { class: "notice" }, text)),
      h("dl", { class: "numbers" },
        term("behind", answer.lag.problem ? "not known" : `${count(lag)} ${lag === 1 ? "record" : "records"}`, lag > 10_000 ? "bad" : null),
        term("newest result", silent === null ? "none yet" : silent > 120_000 ? `${duration(silent)} ago` : "within the last minute", silent > 300_000 ? "bad" : null),
        term("input to result", latencyText(answer.latency)),
        term("alarms per entity and day", budgetText(answer.budget), isOver(answer.budget) ? "bad" : null),
        term("dead letters", count(dead), dead ? "bad" : null),
        term("entities", count(answer.fleet.entities)), term("warming up", count(answer.fleet.warming)),
        term("silent", count(answer.fleet.stale)), term("open incidents", count(answer.fleet.open_incidents))),
      chart,
      h("div", { class: "two" },
        h("section", {}, h("h2", {}, "Input records without a result, by partition"), answer.lag.problem ? h("p", { class: "empty" }, answer.lag.problem) : bars(parts)),
        h("section", {}, h("h2", {}, "Models that scored the newest records"), table(["model", "trained up to (UTC)", "published", "entities", "newest event"], answer.models.map((one) => [one.model_id ?? "no trained model", one.version ? one.version.slice(0, 16).replace("T", " ") : "–", one.published_ms ? `${duration(answer.now_ms - one.published_ms)} ago` : "–", count(one.entities), moment(one.newest_ms)])))),
      h("h2", {}, "Dead letters"),
      answer.dead_letters.by_reason.length
        ? h("div", {}, table(["reason", "records", "newest"], answer.dead_letters.by_reason.map((one) => [one.reason, count(one.count), moment(one.newest_ms)])),
          h("h2", {}, "Newest dead letters"), table(["source", "reason", "message", "bytes"], answer.dead_letters.newest.slice(0, 8).map((one) => [`${one.source_topic}[${one.source_partition}]@${one.source_offset}`, one.reason, one.message, count(one.size_bytes)])))
        : h("p", { class: "empty" }, "None: every record could be read."),
      h("h2", {}, "What this page reads"),
      table(["topic", "state", "read", "not decodable"], answer.topics.map((one) => [one.topic, one.problem || "read to the newest committed record", count(Object.values(one.positions).reduce((sum, offset) => sum + offset, 0)), count(one.undecodable)])),
      h("p", { class: "soft" }, `History: ${count(answer.history.points)} points in ${count(answer.history.series)} series, ${count(answer.history.anomalies)} anomaly events. ${count(answer.clients)} ${answer.clients === 1 ? "page follows" : "pages follow"} live${answer.dropped_clients ? `, ${count(answer.dropped_clients)} were too slow and reloaded` : ""}.${answer.rebuilt ? ` The history was rebuilt from the topics: ${answer.rebuilt}.` : ""}`));
  }

  function latencyText(latency) {
    if (!latency?.records) return h("span", { title: latency?.problem ?? "" }, "not known");
    const title = `Kafka timestamps of the newest ${latency.records} records and of their results: p99 ${duration(latency.p99_ms)}`;
    return h("span", { title }, `${seconds(latency.p50_ms)} median, ${seconds(latency.p95_ms)} p95`);
  }

  function budgetText(budget) {
    if (budget.achieved === null) return "warming up";
    const title = `${budget.episodes} episodes in ${number(budget.entity_days)} entity-days, the newest ${budget.days} days of each`;
    const requested = budget.requested === null ? "no budget set" : `${number(budget.requested)} asked`;
    return h("span", { title }, `${number(Number(budget.achieved.toPrecision(2)))}, ${requested}`);
  }

  function bars(parts) {
    if (!parts.length) return h("p", { class: "empty" }, "No partition.");
    const most = Math.max(1, ...parts.map(([, lag]) => lag));
    return h("div", { class: "shares" }, parts.slice(0, 64).flatMap(([partition, lag]) => {
      const fill = h("div", { class: lag ? "fill" : "" });
      fill.style.width = `${(lag / most) * 100}%`;
      return [h("span", {}, `partition ${partition}`), h("div", { class: "track" }, fill), h("span", { class: "right" }, count(lag))];
    }));
  }

  load();
  return { stream: ["pipeline", null], redraw: () => rates.redraw(), reload: load, close() { isClosed = true; clearTimeout(timer); rates.destroy(); } };
}
