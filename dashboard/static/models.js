// Who decides: published models, how they did on held-out rows, and which partitions run what.

import { get } from "./api.js";
import { entityUrl, h, modelUrl } from "./dom.js";
import { count, duration, moment, number, utc } from "./format.js";
import { table } from "./parts.js";

const REFRESH_MS = 5000;
const SOME = 8;

const percent = (share) => (share === null || share === undefined ? "–" : `${number(share * 100)} %`);
const words = (name) => (name ?? "–").replaceAll("_", " ");
const trainedUpTo = (version) => (version ? version.slice(0, 16).replace("T", " ") : "–");
const age = (model, nowMs) => h("span", { title: utc(model.published_ms) }, `${duration(Math.max(0, nowMs - model.published_ms))} ago`);

// [0, 1, 2, 5] as "0 to 2, 5".
function ranges(numbers) {
  const parts = [];
  for (const one of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === one - 1) last[1] = one;
    else parts.push([one, one]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from} to ${to}`)).join(", ");
}

export function models(root, page) {
  const body = h("div");
  root.replaceChildren(h("div", { class: "heading" }, h("h1", {}, "Models"), h("span", { class: "soft" }, "Who decides, and how well it did on data it was not trained on")), body);
  let timer = null;
  let isClosed = false;

  async function load() {
    try {
      const answer = await get("/v1/models");
      if (isClosed) return;
      draw(answer);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
    if (!isClosed) { clearTimeout(timer); timer = setTimeout(load, REFRESH_MS); }
  }

  function draw(answer) {
    const focused = document.activeElement?.getAttribute?.("href");
    body.replaceChildren(
      ...(answer.problem ? [h("p", { class: "notice" }, `The models folder cannot be read (${answer.problem}). Set models_dir, or mount it into the dashboard; the partitions below are known from the activations topic.`)] : []),
      h("h2", {}, "Partitions"), partitions(answer),
      h("h2", {}, "Published models"),
      answer.models.length ? published(answer) : h("p", { class: "empty" }, "None yet: `lapwing train --once` publishes one. Until then the online detectors decide alone."),
      ...(answer.not_on_the_volume.length ? [h("p", { class: "soft" }, `Not in the folder, but in the history: ${answer.not_on_the_volume.map((one) => one.model_id).join(", ")}.`)] : []));
    if (focused) body.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }

  function partitions(answer) {
    if (!answer.partitions.length) return h("p", { class: "empty" }, "No predictor has reported what it runs: nothing was scored yet, or the activations topic cannot be read (see Pipeline).");
    const groups = new Map();
    for (const one of answer.partitions) {
      const key = [one.detector, one.model_id, one.alarms_per_day, one.threshold, one.state_version].join("|");
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    const known = new Map(answer.models.map((model) => [model.model_id, model.sha256]));
    const rows = [...groups.values()].map((group) => {
      const [one] = group;
      const decides = one.alarms_per_day ? `${number(one.alarms_per_day)} alarms per entity and day` : `threshold ${number(one.threshold)}`;
      const model = one.model_id === null ? "no trained model" : known.has(one.model_id) ? h("a", { href: modelUrl(known.get(one.model_id)) }, one.model_id) : one.model_id;
      const since = group.slice(0, SOME).map((each) => `${each.partition}@${each.since_offset}`).join(", ");
      return [ranges(group.map((each) => each.partition)), words(one.detector), model, trainedUpTo(one.model_version), decides, h("span", { class: "soft" }, group.length > SOME ? `${since}, …` : since)];
    });
    return table(["partition", "detector", "model", "trained up to (UTC)", "what decides", "since offset"], rows);
  }

  function published(answer) {
    const rows = answer.models.map((model) => {
      const evaluation = model.evaluation ?? {};
      const name = h("a", { href: modelUrl(model.sha256), "data-item": true }, model.model_id);
      const use = model.partitions.length ? `partitions ${ranges(model.partitions)}` : "–";
      if (model.problem) return [name, h("span", { class: "bad" }, model.problem), "", age(model, answer.now_ms), "", "", use];
      return [
        h("span", {}, name, model.sha256 === answer.current ? h("span", { class: "tag" }, "current") : ""),
        words(model.detector), trainedUpTo(model.version), age(model, answer.now_ms),
        `${count(evaluation.rows?.train)} / ${count(evaluation.rows?.test)}`,
        `${number(evaluation.alarms_per_entity_and_day?.test)} (${percent(evaluation.flagged_share?.test)} of rows)`, use];
    });
    return table(["model", "detector", "trained up to (UTC)", "published", "rows trained / held out", "alarms per entity and day, held out", "in use"], rows);
  }

  load();
  return { stream: ["models", null], reload: load, close() { isClosed = true; clearTimeout(timer); } };
}

export function model(root, page, sha256) {
  async function load() {
    try {
      const found = await get(`/v1/models/${encodeURIComponent(sha256)}`);
      draw(found);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
  }

  function draw(found) {
    const { evaluation = {}, training = {}, seeds = null } = found;
    const labels = evaluation.labels;
    const facts = [
      ["in use", found.partitions.length ? `partitions ${ranges(found.partitions)}` : "no partition"],
      ["age", `${duration(Math.max(0, found.now_ms - found.published_ms))}`],
      ["rows trained", count(evaluation.rows?.train)], ["rows held out", count(evaluation.rows?.test)],
      ["flagged, held out", percent(evaluation.flagged_share?.test)],
      ["alarms per entity and day", number(evaluation.alarms_per_entity_and_day?.test)],
      ...(labels ? [["labelled windows found", `${count(labels.found ?? labels.hits)} of ${count(labels.windows)}`]] : []),
    ];
    root.replaceChildren(
      h("div", { class: "heading" }, h("h1", {}, found.model_id), h("span", { class: "soft" }, words(found.detector)), h("span", { class: "soft" }, `trained up to ${trainedUpTo(found.version)} UTC`)),
      ...(found.problem ? [h("p", { class: "notice" }, found.problem)] : []),
      h("dl", { class: "numbers" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      h("div", { class: "two" }, about(found, training, seeds), quantiles(evaluation)),
      h("h2", {}, "Entities of the report, by peak severity"),
      found.entities.length ? entities(found) : h("p", { class: "empty" }, found.has_report ? "The report cannot be read." : "The report is not written yet: training draws it after the model is published."),
      ...pictures(found));
  }

  function about(found, training, seeds) {
    const parameters = Object.entries(found.parameters ?? {}).map(([name, value]) => `${name} ${value}`).join(", ");
    const facts = [
      ["training range", training.first_event ? `${trainedUpTo(training.first_event)} to ${trainedUpTo(training.last_event)} UTC` : "–"],
      ["entities", count(training.entities)], ["metrics", (found.metrics ?? []).join(", ")], ["parameters", parameters],
      ["threshold", number(found.threshold)],
      ["three seeds", seeds ? `${seeds.agree ? "agree" : "disagree"}: least rank correlation ${number(seeds.least_rank_correlation)}` : "–"],
      ["left out", `${count(training.alarmed_rows)} rows of alarms, ${count(training.labelled_rows)} of labelled incidents`],
      ["sha256", found.sha256],
    ];
    return h("section", {}, h("h2", {}, "Training"), h("dl", { class: "facts" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }

  function quantiles(evaluation) {
    const scores = evaluation.score_quantiles;
    if (!scores) return h("section", {}, h("h2", {}, "Scores"), h("p", { class: "empty" }, "The manifest has no evaluation."));
    const rows = scores.levels.map((level, index) => [`${number(level * 100)} %`, number(scores.train[index]), number(scores.test[index])]);
    return h("section", {}, h("h2", {}, "Scores: share of rows at or below"), table(["share", "trained", "held out"], rows), h("p", { class: "soft" }, `The threshold is ${number(evaluation.threshold)}. Columns that differ much mean that the data have changed since the training range.`));
  }

  function entities(found) {
    const rows = found.entities.map((one) => [h("a", { href: entityUrl(one.entity) }, one.entity), number(one.peak_severity), count(one.train?.alarms), count(one.test?.alarms), `${number(one.test?.days)} d`]);
    return table(["entity", "peak severity", "alarms trained", "alarms held out", "held out"], rows);
  }

  function pictures(found) {
    const shown = found.entities.map((one) => one.entity).filter((name) => name in found.pictures);
    if (!shown.length) return [];
    const figures = shown.map((name) => h("figure", {}, h("figcaption", {}, name), h("img", { src: `/v1/models/${found.sha256}/pictures/${encodeURIComponent(found.pictures[name])}`, alt: `Training and held-out rows of ${name}, with the model's alarms`, loading: "lazy", width: 932, height: 672 })));
    return [h("h2", {}, "Pictures of the report"), h("div", { class: "pictures" }, figures)];
  }

  load();
  return { stream: ["models", null], reload: load };
}
