// A scenario's medians as bars, with the range of the samples as a line across the end of each.

import { format } from "./markdown.mjs";
import { median } from "./stats.mjs";

const WIDTH = 760;
const LABELS = 270; // where bars begin
const NUMBERS = 90; // room for the median behind the longest bar
const BAR = 16;
const ROW = 22;
const OURS = "#2563eb";
const OTHERS = "#9ca3af";

/** One panel for each case and metric, below each other. */
export function plot({ title, cases }) {
  let y = 34;
  const parts = [text(12, 22, title, 'font-size="15" font-weight="bold"')];
  for (const { title: name, metrics, samples } of cases) {
    for (const [metric, { unit }] of Object.entries(metrics)) {
      const bars = Object.entries(samples).filter(([, of]) => (of[metric] ?? []).length > 0);
      if (bars.length === 0) continue;
      parts.push(text(12, y + 16, `${name}: ${metric}, ${unit}`, 'font-weight="bold"'));
      y += 26;
      const longest = Math.max(...bars.flatMap(([, of]) => of[metric]));
      for (const [contender, { [metric]: values }] of bars) {
        parts.push(bar(y, contender, values, Math.max(longest, 0)));
        y += ROW;
      }
      y += 10;
    }
  }
  const frame = `width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="12"`;
  const background = `<rect width="${WIDTH}" height="${y}" fill="#ffffff"/>`;
  return [`<svg xmlns="http://www.w3.org/2000/svg" ${frame}>`, background, ...parts, "</svg>", ""].join("\n");
}

function bar(y, contender, values, longest) {
  const scale = (value) => (longest > 0 ? (Math.max(0, value) / longest) * (WIDTH - LABELS - NUMBERS) : 0);
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map(scale);
  const fill = contender.startsWith("coldstart") ? OURS : OTHERS;
  const centre = y + BAR / 2;
  return [
    text(LABELS - 8, y + 12, contender, 'text-anchor="end"'),
    `<rect x="${LABELS}" y="${y}" width="${round(middle)}" height="${BAR}" fill="${fill}"/>`,
    `<line x1="${round(LABELS + low)}" x2="${round(LABELS + high)}" y1="${centre}" y2="${centre}" stroke="#111827"/>`,
    text(round(LABELS + high + 6), y + 12, format(median(values)), ""),
  ].join("\n");
}

const round = (value) => Math.round(value * 10) / 10;

function text(x, y, content, attributes) {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<text x="${x}" y="${y}" fill="#111827" ${attributes}>${escaped}</text>`;
}
