// Routes, keys, theme, and what all views share: the live stream, errors, announcements.

import { signIn } from "./api.js";
import { anomaly } from "./anomaly.js";
import { h } from "./dom.js";
import { entity } from "./entity.js";
import { fleet } from "./fleet.js";
import { moment, utc } from "./format.js";
import { incident } from "./incident.js";
import { incidents } from "./incidents.js";
import { model, models } from "./models.js";
import { pipeline } from "./pipeline.js";
import { follow } from "./stream.js";

const root = document.getElementById("view");
const notice = document.getElementById("notice");
const live = document.getElementById("live");
const announce = document.getElementById("announce");
const keys = document.getElementById("keys");
const themeButton = document.getElementById("theme-button");
const THEME = "lapwing.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

let view = null;
let unfollow = null;
let streamState = "";
let clockMs = null;

const page = {
  go(url) { history.pushState(null, "", url); route(); },
  ok() { notice.hidden = true; },
  clock(ms) { clockMs = ms ?? clockMs; showLive(); },
  fail(error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) { askForToken(); return; }
    notice.hidden = false;
    notice.textContent = error.message;
    if (error.status === 404 && !root.hasChildNodes()) root.replaceChildren(h("p", { class: "empty" }, h("a", { href: "/" }, "Back to the fleet")));
  },
};

function showLive() {
  live.dataset.state = streamState;
  const text = clockMs === null || clockMs === undefined ? "" : moment(clockMs);
  live.replaceChildren(streamState === "off" ? "reconnecting" : "live", h("span", { class: "long" }, text ? ` · data up to ${text}` : ""));
  live.title = text ? `newest event time ${utc(clockMs)}` : "";
}

function askForToken() {
  unfollow?.();
  const input = h("input", { type: "password", "aria-label": "Token", autocomplete: "current-password", required: true });
  const answer = h("p", { class: "soft", role: "alert" });
  const form = h("form", { class: "signin" }, input, h("button", { type: "submit" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try { await signIn(input.value); route(); } catch (error) { answer.textContent = error.message; }
  });
  root.replaceChildren(h("h1", {}, "Sign in"), h("p", { class: "soft" }, "This page asks for the token in the setting dashboard.token."), form, answer);
  input.focus();
}

function route() {
  view?.close?.();
  unfollow?.();
  notice.hidden = true;
  const path = location.pathname;
  const rest = (prefix) => path.slice(prefix.length).split("/").map(decodeURIComponent).join("/");
  let name = "fleet";
  root.replaceChildren();
  if (path.startsWith("/entity/")) { name = "entity"; document.title = `${rest("/entity/")} – Lapwing`; view = entity(root, page, rest("/entity/")); }
  else if (path.startsWith("/anomaly/")) { name = "anomaly"; document.title = "Anomaly – Lapwing"; view = anomaly(root, page, rest("/anomaly/")); }
  else if (path.startsWith("/incident/")) { name = "incidents"; document.title = "Incident – Lapwing"; view = incident(root, page, rest("/incident/")); }
  else if (path === "/incidents") { name = "incidents"; document.title = "Incidents – Lapwing"; view = incidents(root, page); }
  else if (path.startsWith("/model/")) { name = "models"; document.title = "Model – Lapwing"; view = model(root, page, rest("/model/")); }
  else if (path === "/models") { name = "models"; document.title = "Models – Lapwing"; view = models(root, page); }
  else if (path === "/pipeline") { name = "pipeline"; document.title = "Pipeline – Lapwing"; view = pipeline(root, page); }
  else { document.title = "Lapwing"; view = fleet(root, page); }
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const [streamed, subject] = view.stream;
  const current = view;
  unfollow = follow(streamed, subject, {
    state(state) { streamState = state; showLive(); },
    tick(data) { clockMs = data.clock_ms ?? clockMs; showLive(); current.tick?.(data); },
    anomaly(event) {
      if (event.kind === "anomaly") announce.textContent = `New ${event.severity_class} anomaly on ${event.entity}: ${event.reason}`;
      current.anomaly?.(event);
    },
    incident(event) { current.incident?.(event); },
    reload() { current.reload?.(); },
  });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a");
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.origin !== location.origin || link.getAttribute("href").startsWith("#") || link.pathname.startsWith("/v1/")) return;
  event.preventDefault();
  if (link.href !== location.href) { page.go(link.href); scrollTo({ top: 0 }); root.focus({ preventScroll: true }); }
});
addEventListener("popstate", route);

function walk(step) {
  const items = [...root.querySelectorAll("[data-item]")];
  if (!items.length || view.walk) { view.walk?.(step); return; }
  const at = items.indexOf(document.activeElement);
  const next = items[Math.max(0, Math.min(items.length - 1, at < 0 ? 0 : at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (keys.open) return;
    if (isTyping) event.target.blur();
    else if (location.pathname !== "/") history.length > 1 ? history.back() : page.go("/");
    return;
  }
  if (isTyping || keys.open) return;
  if (event.key === "/") {
    event.preventDefault();
    if (!view.search) page.go("/");
    view.search?.focus();
  } else if (event.key === "j") walk(1);
  else if (event.key === "k") walk(-1);
  else if (event.key === "?") keys.showModal();
});
document.getElementById("keys-button").addEventListener("click", () => keys.showModal());

function applyTheme() {
  const chosen = localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = chosen;
  themeButton.textContent = chosen === "dark" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Switch to ${chosen === "dark" ? "light" : "dark"}`);
  view?.redraw?.();
}
themeButton.addEventListener("click", () => {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
});
dark.addEventListener("change", applyTheme);

applyTheme();
route();
