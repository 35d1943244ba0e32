// The only module that knows uPlot; also draws the small charts of the fleet.

import uPlot from "./vendor/uplot.js";
import { h } from "./dom.js";
import { moment, number, severityClass } from "./format.js";

const HEIGHT = 210;
// Bits of a point's flags, as in dashboard/history/points.py.
const IMPUTED = 2;
const LATE = 4;
// More hollow points than this would hide the line; zooming in shows them.
const MOST_HOLLOW = 400;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Rows for uPlot: [time, value, expected, lower, upper]; a gap becomes a row of nulls.
function columnsOf(chart) {
  const columns = [chart.time_ms, chart.value, chart.expected, chart.lower, chart.upper];
  if (!chart.gaps.length) return columns;
  const out = columns.map(() => []);
  const breaks = new Set(chart.gaps.map(([before]) => before));
  chart.time_ms.forEach((time, row) => {
    columns.forEach((column, index) => out[index].push(column[row]));
    if (breaks.has(time)) out.forEach((column, index) => column.push(index ? null : time + 1));
  });
  return out;
}

const known = (values) => values.filter((value) => value !== null);

// The scale follows value and expected value; a band that is far wider is cut, so the line stays readable.
function scaleOf(chart) {
  const measured = [...known(chart.value), ...known(chart.expected)];
  if (!measured.length) return [0, 1];
  let low = measured.reduce((a, b) => Math.min(a, b));
  let high = measured.reduce((a, b) => Math.max(a, b));
  const room = high - low || Math.abs(high) || 1;
  const edge = (values, at) => [...known(values)].sort((a, b) => a - b).at(Math.floor(at)) ?? null;
  const lower = edge(chart.lower, chart.lower.length * 0.05);
  const upper = edge(chart.upper, -1 - chart.upper.length * 0.05);
  if (lower !== null) low = Math.min(low, Math.max(lower, low - room * 0.2));
  if (upper !== null) high = Math.max(high, Math.min(upper, high + room * 0.2));
  const margin = (high - low || 1) * 0.08;
  return [low - margin, high + margin];
}

function hatch(context, left, top, width, height, stroke) {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.strokeStyle = stroke;
  context.globalAlpha = 0.45;
  context.lineWidth = 1;
  context.beginPath();
  for (let x = left - height; x < left + width; x += 8) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.restore();
}

function shape(context, severity, x, y) {
  context.fillStyle = context.strokeStyle = colour(severity);
  context.lineWidth = 2 * devicePixelRatio;
  const size = { info: 3, minor: 4, major: 6, critical: 7 }[severity] * devicePixelRatio;
  context.beginPath();
  if (severity === "critical") {
    context.moveTo(x, y - size); context.lineTo(x + size, y); context.lineTo(x, y + size); context.lineTo(x - size, y);
    context.closePath(); context.fill();
  } else if (severity === "major") {
    context.moveTo(x, y - size); context.lineTo(x + size, y + size * 0.8); context.lineTo(x - size, y + size * 0.8);
    context.closePath(); context.fill();
  } else {
    context.arc(x, y, size, 0, 7);
    if (severity === "minor") context.stroke();
    else context.fill();
  }
}

// Data-quality verdicts at the foot: a bar for a period, a tick for a moment.
function verdictMarks(u, verdicts) {
  const { ctx } = u;
  const foot = u.bbox.top + u.bbox.height;
  ctx.fillStyle = colour("quality");
  for (const one of verdicts) {
    const from = u.valToPos(one.since_ms, "x", true);
    const to = u.valToPos(one.time_ms, "x", true);
    const isMoment = to - from < 2;
    const height = (isMoment ? 10 : 5) * devicePixelRatio;
    ctx.fillRect(from, foot - height, Math.max(2 * devicePixelRatio, to - from), height);
  }
}

// A missing value is a hollow point where it was expected, a late one a hollow square.
function hollowPoints(u, chart) {
  const { ctx } = u;
  const marked = [];
  chart.flags.forEach((flags, row) => {
    if ((flags & IMPUTED) && chart.value[row] === null && chart.expected[row] !== null) marked.push([chart.time_ms[row], chart.expected[row], false]);
    else if ((flags & LATE) && chart.value[row] !== null) marked.push([chart.time_ms[row], chart.value[row], true]);
  });
  if (marked.length > MOST_HOLLOW) return;
  ctx.lineWidth = 1.3 * devicePixelRatio;
  ctx.strokeStyle = colour("quality");
  ctx.fillStyle = colour("ground");
  const size = 3 * devicePixelRatio;
  for (const [ms, value, isLate] of marked) {
    const x = u.valToPos(ms, "x", true);
    const y = u.valToPos(value, "y", true);
    ctx.beginPath();
    if (isLate) ctx.rect(x - size, y - size, 2 * size, 2 * size);
    else ctx.arc(x, y, size, 0, 7);
    ctx.fill();
    ctx.stroke();
  }
}

// Which marks a chart shows, for its legend.
export const marksOf = (charts, verdicts, models) => ({
  gap: charts.some((chart) => chart.gaps.length),
  imputed: charts.some((chart) => chart.flags.some((flags, row) => (flags & IMPUTED) && chart.value[row] === null)),
  late: charts.some((chart) => chart.flags.some((flags) => flags & LATE)),
  verdict: verdicts.length > 0,
  model: models.length > 0,
});

// Episodes, gaps and model changes, beneath the lines; peaks above them.
function spans(state) {
  const beneath = (u) => {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.beginPath(); ctx.rect(left, top, width, height); ctx.clip();
    const x = (ms) => u.valToPos(ms, "x", true);
    for (const [from, to] of state.chart.gaps) hatch(ctx, x(from), top, x(to) - x(from), height, colour("hatch"));
    for (const episode of state.episodes) {
      const end = episode.end_ms ?? Math.max(state.lastMs, episode.start_ms);
      ctx.fillStyle = colour("span");
      ctx.fillRect(x(episode.start_ms), top, Math.max(2, x(end) - x(episode.start_ms)), height);
      ctx.fillStyle = colour(severityClass(episode.peak_severity ?? 0));
      ctx.fillRect(x(episode.start_ms), top, Math.max(2, x(end) - x(episode.start_ms)), 3 * devicePixelRatio);
    }
    ctx.setLineDash([2, 4]);
    ctx.strokeStyle = colour("soft");
    ctx.fillStyle = colour("soft");
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (const model of state.models) {
      ctx.beginPath(); ctx.moveTo(x(model.time_ms), top); ctx.lineTo(x(model.time_ms), top + height); ctx.stroke();
      const isRight = x(model.time_ms) > left + width - 100 * devicePixelRatio;
      ctx.textAlign = isRight ? "right" : "left";
      ctx.fillText(`model ${(model.model_id ?? "none").slice(0, 8)}`, x(model.time_ms) + (isRight ? -5 : 5), top + 12 * devicePixelRatio);
    }
    if (state.focusMs) {
      ctx.strokeStyle = colour("ink");
      ctx.beginPath(); ctx.moveTo(x(state.focusMs), top); ctx.lineTo(x(state.focusMs), top + height); ctx.stroke();
    }
    ctx.restore();
  };
  const above = (u) => {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.beginPath(); ctx.rect(left, top, width, height); ctx.clip();
    verdictMarks(u, state.verdicts.filter((one) => one.metric === null || one.metric === state.chart.metric));
    hollowPoints(u, state.chart);
    for (const episode of state.episodes) {
      if (episode.peak_time_ms === null || episode.peak_value === null) continue;
      shape(ctx, severityClass(episode.peak_severity), u.valToPos(episode.peak_time_ms, "x", true), u.valToPos(episode.peak_value, "y", true));
    }
    ctx.restore();
  };
  return { hooks: { drawClear: beneath, draw: above } };
}

// Labels of the time axis: hours as 14:00, and the date where a day begins.
function timeLabels(_, ticks) {
  const two = (value) => String(value).padStart(2, "0");
  return ticks.map((tick) => {
    const at = new Date(tick);
    const isDay = at.getHours() === 0 && at.getMinutes() === 0;
    return isDay ? `${two(at.getMonth() + 1)}-${two(at.getDate())}` : `${two(at.getHours())}:${two(at.getMinutes())}`;
  });
}

// One metric with expected value, band and marks. `handlers`: {zoom(from, to), reset()}.
export function metricChart(chart, context, handlers) {
  const state = { chart, ...context };
  const readout = h("div", { class: "readout" });
  const element = h("div", { class: "plot" }, readout);
  const label = `${chart.metric}: ${chart.points} points from ${moment(context.fromMs)} to ${moment(context.toMs)}`;
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", label);
  let plot = null;

  function show(row) {
    const columns = plot ? plot.data : columnsOf(state.chart);
    let at = row;
    if (at === null || at === undefined) {
      at = columns[0].length - 1;
      while (at > 0 && columns[1][at] === null) at -= 1;
    }
    const [time, value, expected, lower, upper] = columns.map((column) => column[at]);
    readout.replaceChildren(
      h("b", {}, state.title ?? state.chart.metric),
      h("span", {}, time === undefined ? "no data in this range" : moment(time)),
      h("span", {}, h("span", { class: "key" }), "value ", h("b", {}, number(value))),
      h("span", {}, h("span", { class: "key dash" }), "expected ", number(expected)),
      h("span", {}, h("span", { class: "key fill" }), "band ", lower === null || lower === undefined ? "–" : `${number(lower)} to ${number(upper)}`),
      ...verdictAt(time),
    );
  }

  // The verdict at the cursor, in words.
  function verdictAt(time) {
    const found = state.verdicts.find((one) => (one.metric === null || one.metric === state.chart.metric) && one.since_ms <= time && time <= one.time_ms);
    return found ? [h("span", { class: "quality" }, found.reason)] : [];
  }

  function options(width) {
    const line = colour("accent");
    const axis = { stroke: colour("soft"), grid: { stroke: colour("hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const hidden = { stroke: "transparent", width: 0, points: { show: false } };
    return {
      width, height: HEIGHT, ms: 1, padding: [8, 24, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: context.syncKey }, drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: () => [state.fromMs, state.toMs] },
        y: { range: () => scaleOf(state.chart) },
      },
      axes: [{ ...axis, size: 30, values: timeLabels }, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => compact(tick)) }],
      series: [
        {},
        { stroke: line, width: 1.5, points: { show: state.chart.time_ms.length < 60, size: 4, fill: line } },
        { stroke: colour("expected"), width: 1, dash: [5, 4], points: { show: false } },
        hidden, hidden,
      ],
      bands: [{ series: [4, 3], fill: colour("band") }],
      plugins: [spans(state)],
      hooks: {
        setCursor: [(u) => show(u.cursor.idx)],
        setSelect: [(u) => {
          if (u.select.width < 4) return;
          const from = u.posToVal(u.select.left, "x");
          const to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          handlers.zoom?.(Math.round(from), Math.round(to));
        }],
      },
    };
  }

  function draw() {
    plot?.destroy();
    plot = new uPlot(options(Math.max(240, element.clientWidth)), columnsOf(state.chart), element);
    plot.over.addEventListener("dblclick", () => handlers.reset?.());
    show(null);
  }

  const observer = new ResizeObserver(() => {
    if (!plot) draw();
    else if (Math.abs(plot.width - element.clientWidth) > 1) plot.setSize({ width: Math.max(240, element.clientWidth), height: HEIGHT });
  });
  observer.observe(element);

  return {
    element,
    redraw: draw,
    update(next, nextContext) {
      Object.assign(state, nextContext, { chart: next });
      if (!plot) return;
      plot.setData(columnsOf(next), true);
      if (plot.cursor.idx === null || plot.cursor.idx === undefined) show(null);
    },
    destroy() {
      observer.disconnect();
      plot?.destroy();
    },
  };
}

function compact(value) {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return Number((value / unit).toPrecision(3)) + letter;
  }
  return number(value);
}

// Results per minute, as bars.
export function rateChart(rows, key, label) {
  const element = h("div", { class: "plot", role: "img", "aria-label": label });
  let plot = null;
  const data = () => [rows.map((row) => row.minute_ms), rows.map((row) => row[key])];
  function draw() {
    plot?.destroy();
    const axis = { stroke: colour("soft"), grid: { stroke: colour("hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    plot = new uPlot({
      width: Math.max(240, element.clientWidth), height: 130, ms: 1, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: true, range: (_, low, high) => [Math.min(low, high - 1_800_000), high + 60_000] }, y: { range: (_, __, high) => [0, (high || 1) * 1.1] } },
      axes: [{ ...axis, size: 30, values: timeLabels }, { ...axis, size: 62, values: (_, ticks) => ticks.map(compact) }],
      series: [{}, { stroke: colour("accent"), fill: colour("accent-soft"), width: 1.5, paths: uPlot.paths.bars({ size: [0.7, 24], align: 1 }), points: { show: false } }],
    }, data(), element);
  }
  const observer = new ResizeObserver(() => draw());
  observer.observe(element);
  return { element, redraw: draw, update(next) { rows = next; plot?.setData(data()); }, destroy() { observer.disconnect(); plot?.destroy(); } };
}

// A small chart: line, episodes, gaps left open.
export function spark(canvas, chart) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const values = known(chart?.value ?? []);
  if (!values.length) return;
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const x = (ms) => ((ms - chart.from_ms) / (chart.to_ms - chart.from_ms)) * width;
  const y = (value) => height - 5 - ((value - low) / (high - low || 1)) * (height - 10);
  context.fillStyle = colour("span");
  for (const episode of chart.episodes) {
    const start = Math.max(0, x(episode.start_ms));
    context.fillRect(start, 0, Math.max(2, x(episode.end_ms ?? chart.to_ms) - start), height);
  }
  const breaks = new Set(chart.gaps.map(([before]) => before));
  context.strokeStyle = colour("accent");
  context.lineWidth = 1.3;
  context.lineJoin = "round";
  context.beginPath();
  let isDown = false;
  chart.time_ms.forEach((time, row) => {
    const value = chart.value[row];
    if (value === null) { isDown = false; return; }
    if (isDown) context.lineTo(x(time), y(value));
    else context.moveTo(x(time), y(value));
    isDown = !breaks.has(time);
  });
  context.stroke();
}
