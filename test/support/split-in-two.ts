import { readFileSync, writeFileSync } from "node:fs";
import { readGgufForRewrite, writeGguf, type GgufEntry } from "./gguf-writer.js";

/** A model's tensors in two files, `<prefix>-00001-of-00002.gguf` and so on, as llama-gguf-split writes them. */
export function splitInTwo(file: string, prefix: string): void {
  const { metadata, tensors } = readGgufForRewrite(readFileSync(file));
  const half = Math.ceil(tensors.length / 2);
  const split = (number: number): GgufEntry[] => [
    { key: "split.no", type: "uint16", value: number },
    { key: "split.count", type: "uint16", value: 2 },
    { key: "split.tensors.count", type: "int32", value: tensors.length },
  ];
  const parts = [
    { metadata: [...metadata, ...split(0)], tensors: tensors.slice(0, half) },
    { metadata: split(1), tensors: tensors.slice(half) },
  ];
  for (const [i, part] of parts.entries()) writeFileSync(`${prefix}-0000${i + 1}-of-00002.gguf`, writeGguf(part));
}
