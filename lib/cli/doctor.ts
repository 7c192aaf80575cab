import type { Check } from "./checks/check.js";
import { examine } from "./checks/run.js";
import { EXIT } from "./exit-codes.js";
import { formatTable } from "./format.js";
import { toJson } from "./to-json.js";

const MARK = { ok: "✓", warn: "!", fail: "✗", skip: "-" } as const;
const COLOR = { ok: 32, warn: 33, fail: 31, skip: 90 } as const; // green, yellow, red, grey

export interface DoctorFlags {
  model?: string;
  measure: boolean;
  json?: boolean;
}

export async function doctor(options: DoctorFlags): Promise<void> {
  const { json, ...rest } = options;
  const { checks, machine } = await examine(rest);
  const failed = checks.some(({ status }) => status === "fail");
  if (json) {
    console.log(toJson({ ok: !failed, checks, machine }));
  } else {
    console.log(render(checks, process.stdout.isTTY && process.stdout.hasColors()));
  }
  if (failed) process.exitCode = EXIT.failure;
}

/** What was found, a line for each, and numbered remedies. */
export function render(checks: readonly Check[], colors: boolean): string {
  const table = formatTable(checks.map(({ name, status, found }) => [MARK[status], name, found])).split("\n");
  const lines = table.map((line, i) => {
    const status = checks[i]?.status ?? "ok";
    return colors ? `\x1b[${COLOR[status]}m${MARK[status]}\x1b[39m${line.slice(1)}` : line;
  });
  const remedies = checks.filter(({ remedy }) => remedy !== undefined);
  if (remedies.length === 0) return [...lines, "", "Nothing to do."].join("\n");
  return [...lines, "", "Remedies", ...remedies.map(({ name, remedy }, i) => `${i + 1}. ${name}: ${remedy}`)].join(
    "\n",
  );
}
