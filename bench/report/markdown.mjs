// Results as Markdown: a table of all targets, then for each scenario its plot and tables.

import { median } from "./stats.mjs";

/** The whole page. `results` are those of one or more runs, in the order to show them. */
export function page(results) {
  return [
    "# Results",
    "",
    "Made by `npm run bench` in `bench/`. In each table the contenders took turns in one run, each time in a process of its",
    "own; a median is that of all rounds, and the ratio is that of the medians. Where a library of Node.js and a tool of",
    "llama.cpp are compared, the library also samples and delivers text, the tool does neither.",
    "",
    ...machineLines(results),
    "## Targets",
    "",
    ...targetLines(results),
    ...results.flatMap(scenarioLines),
  ].join("\n");
}

/** Rows under a header, as a Markdown table. */
export function table(header, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)];
}

function machineLines(results) {
  const machines = new Map(results.map(({ machine }) => [JSON.stringify(machine), machine]));
  return [...machines.values()].flatMap((machine) => [
    ...table(
      ["Machine", ""],
      Object.entries(machine).map(([name, value]) => [name, String(value)]),
    ),
    "",
  ]);
}

function targetLines(results) {
  const rows = results.flatMap(({ scenario, cases }) =>
    cases.flatMap(({ title, targets }) =>
      targets.map(({ text, value, met }) => [scenario, title, text, format(value), verdict(met)]),
    ),
  );
  return [...table(["scenario", "case", "target", "measured", "met"], rows), ""];
}

function scenarioLines({ scenario, title, about, measured, skipped, cases }) {
  const head = [`## ${title}`, "", about, ""];
  if (skipped) return [...head, `Not measured: ${skipped}.`, ""];
  const { date, commit, rounds, loadBefore, quick } = measured;
  return [
    ...head,
    `Measured on ${date}, commit ${commit}, ${rounds} rounds, load of the machine before: ${loadBefore}.` +
      (quick ? " A quick run with less work: not for comparing." : ""),
    "",
    `![${title}](results/${scenario}.svg)`,
    "",
    ...cases.flatMap(caseLines),
  ];
}

/** The tables of one case: one for each metric, and what contenders were missing. */
export function caseLines({ title, metrics, samples, absent, targets }) {
  // Of several settings of coldstart itself, the first is what the others are compared with.
  const reference = "coldstart" in samples ? "coldstart" : (Object.keys(samples)[0] ?? "");
  const tables = Object.entries(metrics).flatMap(([metric, { unit }]) => [
    ...table([metric, `median ${unit}`, "range", `ratio to ${reference}`], metricRows(metric, samples, reference)),
    "",
  ]);
  const missing = Object.entries(absent).map(([name, reason]) => `- ${name} was not measured: ${reason}`);
  return [
    `### ${title}`,
    "",
    ...tables,
    ...missing,
    ...(missing.length > 0 ? [""] : []),
    ...(targets.length > 0 ? targetTable(targets) : []),
  ];
}

function targetTable(targets) {
  const rows = targets.map(({ text, value, met }) => [text, format(value), verdict(met)]);
  return [...table(["target", "measured", "met"], rows), ""];
}

function metricRows(metric, samples, reference) {
  const compared = median(samples[reference]?.[metric] ?? []);
  return Object.entries(samples)
    .filter(([, of]) => (of[metric] ?? []).length > 0)
    .map(([name, { [metric]: values }]) => {
      const range = `${format(Math.min(...values))} to ${format(Math.max(...values))}`;
      const ratio = compared > 0 ? format(median(values) / compared) : "";
      return [name, format(median(values)), range, ratio];
    });
}

const verdict = (met) => (met === undefined ? "not measured" : met ? "yes" : "**no**");

/** With three or four digits that count. */
export function format(value) {
  if (value === undefined) return "";
  if (Math.abs(value) >= 1000) return value.toFixed(0);
  if (Math.abs(value) >= 100) return value.toFixed(1);
  return value.toFixed(Math.abs(value) >= 10 ? 2 : 3);
}
