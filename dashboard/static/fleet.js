// What is anomalous now: open episodes first, then every entity as a small chart.

import { get } from "./api.js";
import { spark } from "./chart.js";
import { anomalyUrl, entityUrl, h, incidentUrl, mark } from "./dom.js";
import { anomalyRow, extent } from "./parts.js";
import { count, duration, episodeText, incidentText, moment, number, severityClass, utc } from "./format.js";

const CARD_HEIGHT = 132;
const CARD_WIDTH = 250;
const PAGE = 60;
const REFRESH_MS = 2000;
const SOON_MS = 300;
const STRIP = 12;
const RECENT = 6;
// Characters at the end of a name that stay when it is shortened: names often differ only there.
const TAIL = 7;
const FILTERS = [["all", "All", {}], ["anomalous", "Anomalous now", { anomalous: true }], ["warming", "Warming up", { state: "WARMING" }], ["stale", "Silent", { state: "STALE" }]];
const HOURS = [["6", "6 h"], ["24", "24 h"], ["72", "3 d"], ["168", "7 d"]];
const GUIDE = "lapwing.guide";

export function fleet(root, page) {
  const query = new URLSearchParams(location.search);
  const state = { q: query.get("q") ?? "", filter: query.get("show") ?? "all", hours: query.get("hours") ?? "24", total: 0, clockMs: null, waiting: 0 };
  const strip = h("div", { class: "strip" });
  const pill = h("button", { class: "pill", type: "button", hidden: true, onclick: () => { state.waiting = 0; pill.hidden = true; scrollTo({ top: 0 }); refresh(); } });
  const title = h("h1", {}, "Fleet");
  const summary = h("span", { class: "soft" });
  const search = h("input", { type: "search", placeholder: "Search entities  /", "aria-label": "Search entities", value: state.q, maxlength: 200 });
  const filters = FILTERS.map(([name, text]) => h("button", { type: "button", "data-filter": name, onclick: () => choose({ filter: name }) }, text));
  const hours = h("select", { "aria-label": "Length of the small charts", onchange: () => choose({ hours: hours.value }) }, HOURS.map(([value, text]) => h("option", { value, selected: value === state.hours }, text)));
  const found = h("span", { class: "soft", role: "status" });
  const grid = h("div", { class: "grid" });
  const nowTitle = h("h2", {}, "Anomalous now");
  const guide = h("div", { class: "guide" },
    h("div", {}, h("p", {}, "Three things to try:"), h("ol", {},
      h("li", {}, "Open an anomaly and read why it was raised; ", h("code", {}, "lapwing explain"), " recomputes it step by step."),
      h("li", {}, "Kill a predictor (", h("code", {}, "kill -9"), " its process) and watch ", h("a", { href: "/pipeline" }, "Pipeline"), ": what is behind is caught up, and nothing is lost."),
      h("li", {}, "Train again (", h("code", {}, "lapwing train --once"), ") and watch ", h("a", { href: "/models" }, "Models"), ": the partitions take over the new model.")),
      h("p", { class: "soft" }, "lapwing demo prints these commands for its own processes.")),
    h("button", { class: "quiet", type: "button", "aria-label": "Dismiss", onclick: () => { localStorage.setItem(GUIDE, "seen"); guide.remove(); } }, "×"));
  root.replaceChildren(
    ...(localStorage.getItem(GUIDE) ? [] : [guide]),
    h("div", { class: "heading" }, title, summary), pill, nowTitle, strip,
    h("h2", {}, "Entities"),
    h("div", { class: "tools", role: "search" }, search, ...filters, hours, found), grid);

  const cards = new Map();
  let rows = new Map();
  let timer = null;
  let soon = null;
  let typing = null;
  let asked = 0;
  let answered = 0;
  let width = 0;
  let busy = false;

  const columns = () => Math.max(1, Math.floor(grid.clientWidth / CARD_WIDTH));

  function choose(change) {
    Object.assign(state, change);
    const text = new URLSearchParams();
    if (state.q) text.set("q", state.q);
    if (state.filter !== "all") text.set("show", state.filter);
    if (state.hours !== "24") text.set("hours", state.hours);
    history.replaceState(null, "", text.size ? `/?${text}` : "/");
    rows = new Map();
    load();
  }

  // The rows of the window that is visible, and one screen beyond.
  function range() {
    const wide = columns();
    const top = Math.max(0, -grid.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(top / CARD_HEIGHT) - 1) * wide;
    const visible = (Math.ceil(innerHeight / CARD_HEIGHT) + 2) * wide;
    return [first, Math.min(PAGE, visible)];
  }

  async function load() {
    const [offset, limit] = range();
    const turn = ++asked;
    const filter = FILTERS.find(([name]) => name === state.filter)?.[2] ?? {};
    try {
      const answer = await get("/v1/entities", { q: state.q, ...filter, offset, limit, spark_hours: state.hours });
      if (turn < answered) return;
      answered = turn;
      state.total = answer.total;
      state.clockMs = answer.fleet.clock_ms;
      answer.entities.forEach((row, index) => rows.set(offset + index, row));
      describe(answer.fleet);
      lay(offset, answer.entities.length);
      page.ok();
    } catch (error) {
      page.fail(error);
    }
  }

  function describe(totals) {
    page.clock(totals.clock_ms);
    const parts = [`${count(totals.entities)} entities`, `${count(totals.anomalous)} anomalous`];
    if (totals.open_incidents) parts.push(`${count(totals.open_incidents)} open ${totals.open_incidents === 1 ? "incident" : "incidents"}`);
    if (totals.warming) parts.push(`${count(totals.warming)} warming up`);
    if (totals.stale) parts.push(`${count(totals.stale)} silent`);
    summary.textContent = parts.join(" · ");
    found.textContent = state.q || state.filter !== "all" ? `${count(state.total)} found` : "";
    filters.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.filter === state.filter)));
    if (!state.total) {
      const nothing = totals.entities
        ? "No entity matches. Clear the search, or choose All."
        : "Waiting for data. The first results appear here as soon as predictors write them; Pipeline shows what is missing.";
      grid.style.height = "";
      cards.clear();
      grid.replaceChildren(h("p", { class: "empty" }, nothing));
    }
  }

  function lay(offset, length) {
    if (!state.total) return;
    if (grid.querySelector(".empty")) grid.replaceChildren();
    const wide = columns();
    const width = grid.clientWidth / wide;
    grid.style.height = `${Math.ceil(state.total / wide) * CARD_HEIGHT}px`;
    const shown = new Set();
    for (let index = offset; index < offset + length; index += 1) {
      const row = rows.get(index);
      if (!row) continue;
      shown.add(row.name);
      const card = cards.get(row.name) ?? make(row.name);
      card.element.style.left = `${(index % wide) * width}px`;
      card.element.style.top = `${Math.floor(index / wide) * CARD_HEIGHT}px`;
      card.element.style.width = `${width - 22}px`;
      card.element.style.height = `${CARD_HEIGHT - 8}px`;
      fill(card, row);
    }
    for (const [name, card] of cards) {
      if (!shown.has(name)) { card.element.remove(); cards.delete(name); }
    }
    const order = [...cards.values()].sort((a, b) => parseFloat(a.element.style.top) - parseFloat(b.element.style.top) || parseFloat(a.element.style.left) - parseFloat(b.element.style.left));
    if (order.some((card, index) => grid.children[index] !== card.element) && !grid.contains(document.activeElement)) grid.append(...order.map((card) => card.element));
  }

  function make(name) {
    const head = h("span", { class: "head" });
    const canvas = h("canvas", { "aria-hidden": "true" });
    const figures = h("span", { class: "figures" });
    const element = h("a", { class: "card", href: entityUrl(name), "data-item": true }, head, figures, canvas);
    const card = { element, head, figures, canvas };
    cards.set(name, card);
    grid.append(element);
    return card;
  }

  function fill(card, row) {
    const severity = row.open_episodes ? severityClass(row.open_severity) : "info";
    const label = row.open_episodes ? `${severity}, ${row.open_episodes} open` : "nothing open";
    card.head.replaceChildren(mark(severity, label), h("span", { class: "name", title: row.name }, h("span", {}, row.name.slice(0, -TAIL)), h("span", {}, row.name.slice(-TAIL))));
    const chart = row.chart;
    const last = chart ? chart.value.at(-1) : null;
    const left = chart ? `${chart.metric} ${number(last)}` : "no metric yet";
    let right = row.open_episodes ? `${row.open_episodes} open` : "";
    if (row.state === "WARMING") {
      const minutes = row.warmup_minutes_left;
      right = `warming ${Math.round(row.warmup_percent ?? 0)} %${minutes ? `, ${duration(minutes * 60_000)} left` : ""}`;
    } else if (row.state === "STALE") right = "silent";
    const bar = row.state === "WARMING" ? [h("progress", { class: "progress", max: 100, value: row.warmup_percent ?? 0, "aria-label": "warm-up" })] : [];
    card.figures.replaceChildren(h("span", {}, left), h("span", {}, right));
    card.element.querySelector("progress")?.remove();
    if (bar.length) card.figures.before(...bar);
    spark(card.canvas, chart);
  }

  async function open() {
    try {
      const active = await get("/v1/incidents", { state: "open", order: "severity", limit: STRIP });
      if (active.total) { showIncidents(active); return; }
      const answer = await get("/v1/anomalies", { open: true, limit: 100 });
      const latest = new Map();
      for (const event of answer.anomalies) if (!latest.has(event.episode_id)) latest.set(event.episode_id, event);
      const events = [...latest.values()].sort((a, b) => (b.episode.peak_severity ?? 0) - (a.episode.peak_severity ?? 0));
      nowTitle.textContent = events.length > STRIP ? `Anomalous now: ${STRIP} most severe of ${events.length}` : "Anomalous now";
      if (!events.length) {
        const last = (await get("/v1/anomalies", { limit: RECENT })).anomalies;
        const ended = last.length ? `Nothing is anomalous now; the last anomaly was at ${moment(last[0].event_time)}.` : "No anomaly so far.";
        strip.replaceChildren(h("p", { class: "empty" }, ended), h("div", { class: "rows" }, last.map((event) => anomalyRow(event, state.clockMs, false))));
        return;
      }
      showCards(events.slice(0, STRIP).map((event) => {
        const severity = severityClass(event.episode.peak_severity ?? event.severity);
        return h("a", { href: anomalyUrl(event.event_id), "data-item": true, "data-id": event.episode_id },
          mark(severity),
          h("span", { class: "title" }, event.entity, event.metric ? h("span", { class: "soft" }, ` · ${event.metric}`) : null),
          h("span", { class: "clamp" }, event.reason),
          h("span", { class: "soft", title: utc(event.episode.start_ms) }, `${episodeText(event.episode, state.clockMs)}, since ${moment(event.episode.start_ms).slice(5)}`));
      }));
    } catch (error) {
      page.fail(error);
    }
  }

  function showIncidents(active) {
    const clockMs = Math.max(active.clock_ms ?? 0, state.clockMs ?? 0);
    nowTitle.textContent = active.total > STRIP ? `Active incidents: ${STRIP} most severe of ${active.total}` : "Active incidents";
    showCards(active.incidents.map((one) => h("a", { href: incidentUrl(one.incident_id), "data-item": true, "data-id": one.incident_id },
      mark(one.severity_class),
      h("span", { class: "title" }, one.title),
      h("span", { class: "clamp" }, one.reason),
      h("span", { class: "soft", title: utc(one.start) }, [incidentText(one, clockMs), `since ${moment(one.start).slice(5)}`, extent(one)].filter(Boolean).join(", ")))));
  }

  // Cards that were not there before slide in; the focus stays where it was.
  function showCards(cards) {
    const before = new Set([...strip.querySelectorAll("a")].map((one) => one.dataset.id));
    const focused = document.activeElement?.dataset?.id;
    for (const card of cards) if (strip.children.length && !before.has(card.dataset.id)) card.classList.add("arrive");
    strip.replaceChildren(...cards);
    if (focused) strip.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  async function refresh() {
    if (busy) return;
    busy = true;
    await Promise.all([load(), open()]);
    busy = false;
  }

  const isReading = () => scrollY > 160 || strip.matches(":hover") || strip.contains(document.activeElement);
  const later = () => {
    timer ??= setTimeout(() => {
      timer = null;
      if (document.hidden) return;
      if (isReading()) load();
      else refresh();
    }, REFRESH_MS);
  };
  const onScroll = () => { clearTimeout(typing); typing = setTimeout(load, 80); };
  const observer = new ResizeObserver(() => {
    if (width && width !== grid.clientWidth) onScroll();
    width = grid.clientWidth;
  });
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => choose({ q: search.value.trim() }), 150); });
  addEventListener("scroll", onScroll, { passive: true });
  observer.observe(root);
  refresh();

  return {
    search,
    stream: ["fleet", null],
    tick: later,
    anomaly(event) {
      if (event.kind === "anomaly" && event.phase === "open" && isReading()) {
        state.waiting += 1;
        pill.textContent = `${state.waiting} new`;
        pill.hidden = false;
      } else soon ??= setTimeout(() => { soon = null; open(); }, SOON_MS);
      later();
    },
    incident() { if (!isReading()) soon ??= setTimeout(() => { soon = null; open(); }, SOON_MS); },
    reload: refresh,
    redraw: load,
    close() { removeEventListener("scroll", onScroll); observer.disconnect(); clearTimeout(timer); clearTimeout(soon); clearTimeout(typing); answered = Infinity; },
  };
}
