// Numbers, times and durations for a reader. Times are event times in the viewer's zone.

const DAY = 86_400_000;

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e12 || size < 1e-4)) return value.toExponential(2);
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(4)));
}

export const count = (value) => Number(value ?? 0).toLocaleString("en");

export const severityClass = (severity) =>
  severity >= 0.85 ? "critical" : severity >= 0.7 ? "major" : severity >= 0.5 ? "minor" : "info";

const two = (value) => String(value).padStart(2, "0");

export function moment(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

export const utc = (ms) => new Date(ms).toISOString().replace("T", " ").replace(".000Z", " UTC");

export function duration(ms) {
  const minutes = Math.round(ms / 60_000);
  if (ms < 60_000) return `${Math.max(0, Math.round(ms / 1000))} s`;
  if (minutes < 60) return `${minutes} min`;
  if (ms < DAY) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / 3_600_000)} h`;
}

export const BECAUSE = {
  recovered: "recovered",
  accepted: "became usual",
  silent: "silent",
  restarted: "restarted with other settings",
  expired: "expired: no news",
  no_end: "end not known",
};

export function episodeText(episode, clockMs) {
  if (!episode) return "";
  if (episode.end_ms === null) {
    return `open for ${duration(Math.max(0, (clockMs ?? episode.start_ms) - episode.start_ms))}`;
  }
  return `${BECAUSE[episode.closed_because] ?? "closed"} after ${duration(episode.end_ms - episode.start_ms)}`;
}

export function incidentText(incident, clockMs) {
  if (incident.end === null) return `open for ${duration(Math.max(0, (clockMs ?? incident.start) - incident.start))}`;
  return `${BECAUSE[incident.closed_because] ?? "closed"} after ${duration(incident.end - incident.start)}`;
}
