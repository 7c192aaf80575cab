import { inspectGguf, type GgufInfo } from "../gguf/inspect-gguf.js";
import type { MetadataValue } from "../native.js";
import { formatBytes, formatCount, formatTable } from "./format.js";

export interface InspectFlags {
  tensors?: boolean;
  json?: boolean;
}

export async function inspect(file: string, options: InspectFlags): Promise<void> {
  const info = await inspectGguf(file, options.json ? { arrayLimit: Infinity } : {});
  if (options.json) {
    console.log(
      JSON.stringify(info, (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value), 2),
    );
    return;
  }
  console.log(formatTable(summary(info)));
  console.log("\nMetadata");
  console.log(formatTable(Object.entries(info.metadata).map(([key, value]) => [`  ${key}`, shorten(value)])));
  console.log("\nTensors by type");
  console.log(formatTable(byType(info)));
  if (options.tensors) {
    console.log("\nTensors");
    console.log(
      formatTable([
        ["  NAME", "TYPE", "SHAPE", "SIZE"],
        ...info.tensors.map(({ name, type, shape, bytes }) => [
          `  ${name}`,
          type,
          shape.join(" x "),
          formatBytes(bytes),
        ]),
      ]),
    );
  }
}

function summary(info: GgufInfo): string[][] {
  return [
    ["Name", info.name ?? "-"],
    ["Architecture", info.architecture ?? "-"],
    ["Quantization", info.quantization ?? "-"],
    ["Parameters", formatCount(info.parameters)],
    ["Weights", formatBytes(info.weightBytes)],
    ["Layers", String(info.layers ?? "-")],
    ["Context length", String(info.contextLength ?? "-")],
    ["File", `${formatBytes(info.fileSize)}, GGUF version ${info.version}`],
  ];
}

/** The largest share first. */
function byType({ tensors, weightBytes }: GgufInfo): string[][] {
  const types = new Map<string, { count: number; bytes: number; weights: number }>();
  for (const { type, bytes, shape } of tensors) {
    const sum = types.get(type) ?? { count: 0, bytes: 0, weights: 0 };
    const weights = shape.reduce((product, extent) => product * extent, 1);
    types.set(type, { count: sum.count + 1, bytes: sum.bytes + bytes, weights: sum.weights + weights });
  }
  const rows = [...types]
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, { count, bytes, weights }]) => [
      `  ${type}`,
      String(count),
      formatBytes(bytes),
      ((8 * bytes) / weights).toFixed(2),
      `${((100 * bytes) / weightBytes).toFixed(1)} %`,
    ]);
  return [["  TYPE", "TENSORS", "SIZE", "BITS PER WEIGHT", "SHARE"], ...rows];
}

/** A value on one line of a terminal. */
function shorten(value: MetadataValue): string {
  if (typeof value === "object") {
    const shown = value.values
      .slice(0, 6)
      .map((element) => JSON.stringify(typeof element === "bigint" ? element.toString() : element));
    return `${value.length} x ${value.elementType}: [${shown.join(", ")}${value.length > shown.length ? ", …" : ""}]`;
  }
  // Fractions are 32-bit in the file, with about 7 digits.
  const plain = typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
  const text = typeof plain === "string" ? JSON.stringify(plain) : String(plain);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
