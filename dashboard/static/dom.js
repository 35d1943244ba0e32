// Builds elements. Texts become text nodes: what comes from the topics is never markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Severity is shape and size as well as colour.
const SHAPES = {
  info: [["circle", { cx: 8, cy: 8, r: 2.5, fill: "currentColor" }]],
  minor: [["circle", { cx: 8, cy: 8, r: 4.5, fill: "none", stroke: "currentColor", "stroke-width": 2 }]],
  major: [["path", { d: "M8 2.2 14.2 13.4H1.8Z", fill: "currentColor" }]],
  critical: [["path", { d: "M8 0 16 8 8 16 0 8Z", fill: "currentColor" }]],
};

export function mark(severity, label = severity) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `mark ${severity}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  for (const [tag, attributes] of SHAPES[severity] ?? SHAPES.info) {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    svg.append(shape);
  }
  return svg;
}

export const entityUrl = (name) => "/entity/" + name.split("/").map(encodeURIComponent).join("/");
export const modelUrl = (sha256) => "/model/" + encodeURIComponent(sha256);
export const incidentUrl = (id) => "/incident/" + encodeURIComponent(id);
export const anomalyUrl = (id) => "/anomaly/" + encodeURIComponent(id);
