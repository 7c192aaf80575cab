// What quantizing costs, as a picture: divergence over bits per weight. SVG.

import type { QuantizationRow } from "../evaluation/compare-quantizations.js";

const WIDTH = 760;
const HEIGHT = 460;
const LEFT = 84;
const RIGHT = 40;
const TOP = 48;
const BOTTOM = 56;

type Scale = (value: number) => number;

/** The model as it is has no divergence, and no place on a logarithmic scale. */
export function plotComparison(title: string, rows: readonly QuantizationRow[]): string {
  const points = rows.filter(({ type, divergence }) => type !== "none" && divergence.value > 0);
  const bits = points.map(({ bitsPerWeight }) => bitsPerWeight);
  const logs = points.flatMap(({ divergence: { value, low, high } }) =>
    [value, Math.max(low, value / 10), high].map(Math.log10),
  );
  const [left, right] = [Math.floor(Math.min(...bits)), Math.ceil(Math.max(...bits)) + 1];
  const [bottom, top] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  const x: Scale = (value) => LEFT + ((value - left) / (right - left)) * (WIDTH - LEFT - RIGHT);
  const y: Scale = (log) => HEIGHT - BOTTOM - ((log - bottom) / Math.max(1, top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(LEFT, 24, title, 'font-size="15" font-weight="bold"'),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "bits per weight", 'text-anchor="middle"'),
    text(18, (TOP + HEIGHT - BOTTOM) / 2, "Kullback-Leibler divergence, nats", `text-anchor="middle" transform="rotate(-90 18 ${(TOP + HEIGHT - BOTTOM) / 2})"`),
  ]; // prettier-ignore
  for (let value = left; value <= right; value++) {
    parts.push(line(x(value), TOP, x(value), HEIGHT - BOTTOM, "#e5e7eb"));
    parts.push(text(x(value), HEIGHT - BOTTOM + 18, String(value), 'text-anchor="middle"'));
  }
  for (let log = bottom; log <= top; log++) {
    parts.push(line(LEFT, y(log), WIDTH - RIGHT, y(log), "#e5e7eb"));
    parts.push(text(LEFT - 8, y(log) + 4, log >= -3 ? String(10 ** log) : `1e${log}`, 'text-anchor="end"'));
  }
  const labels = new Labels();
  for (const { type, bitsPerWeight, divergence } of points) {
    const [at, low] = [x(bitsPerWeight), Math.max(divergence.low, divergence.value / 10)];
    const height = y(Math.log10(divergence.value));
    parts.push(line(at, y(Math.log10(low)), at, y(Math.log10(divergence.high)), "#93c5fd"));
    parts.push(`<circle cx="${round(at)}" cy="${round(height)}" r="4" fill="#2563eb"/>`);
    const place = labels.place(at + 7, height - 5, type);
    if (Math.abs(place - height) > 14) parts.push(line(at, height, at + 7, place - 4, "#9ca3af"));
    parts.push(text(at + 7, place, type, ""));
  }
  return [...parts, "</svg>", ""].join("\n");
}

/** Puts labels where none is yet: as near as possible, above or below. */
class Labels {
  readonly #taken: { left: number; right: number; y: number }[] = [];

  place(left: number, y: number, label: string): number {
    const right = left + 7.5 * label.length;
    const isFree = (place: number) =>
      this.#taken.every((other) => other.left > right || other.right < left || Math.abs(other.y - place) >= 13);
    const steps = Array.from({ length: 20 }, (_, i) => y + (i % 2 === 0 ? -1 : 1) * Math.ceil(i / 2) * 13);
    const place = steps.find(isFree) ?? y;
    this.#taken.push({ left, right, y: place });
    return place;
  }
}

const round = (value: number) => Math.round(value * 10) / 10;

function line(x1: number, y1: number, x2: number, y2: number, stroke: string): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${stroke}"/>`;
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<text x="${round(x)}" y="${round(y)}" fill="#111827" ${attributes}>${escaped}</text>`;
}
