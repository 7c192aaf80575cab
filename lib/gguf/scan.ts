// One pass over a file: checksums, weights, and what lies between them.

import { createHash, type Hash } from "node:crypto";
import { native } from "../native.js";
import { paddingAfter } from "./encode.js";
import type { GgufFile } from "./parts.js";
import type { Problem, TensorChecksum } from "./verify-model.js";
import { InputFile } from "./write.js";

/** Read at once. Checksums are computed on JavaScript's thread, for less than a millisecond of it at a time. */
const CHUNK = 2 ** 20;

type Visit = (chunk: Buffer, from: number) => Promise<void> | void;

/** A stretch of a file. */
interface Segment {
  begin: number;
  end: number;
  /** Bytes that belong together; chunks are whole ones. */
  unit: number;
  /** Called with each chunk, which stays as it is until then. */
  visit?: Visit;
}

export interface FileScan {
  sha256: string;
  tensors: TensorChecksum[];
  problems: Problem[];
}

/**
 * @param fileSize of the file
 * @param file undefined when its header cannot be read
 * @param onBytes called with how many were read
 */
export async function scanFile(
  path: string,
  fileSize: number,
  file: GgufFile | undefined,
  onBytes: (count: number) => void,
): Promise<FileScan> {
  const problems: Problem[] = [];
  const hashes: { hash: Hash; index: number }[] = [];
  const segments = file ? segmentsOf(file, problems, hashes) : [{ begin: 0, end: fileSize, unit: 1 }];
  const whole = createHash("sha256");
  const input = new InputFile();
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  try {
    for (const { begin, end, unit, visit } of segments) {
      const step = Math.max(1, Math.floor(CHUNK / unit)) * unit;
      for (let at = begin; at < end; at += step) {
        const chunk = buffer.subarray(0, Math.min(step, end - at));
        await input.read(path, at, chunk);
        const visited = visit?.(chunk, at);
        whole.update(chunk);
        await visited;
        onBytes(chunk.length);
      }
    }
  } finally {
    await input.close();
  }
  const tensors = hashes.flatMap(({ hash, index }) => {
    const tensor = file?.layout.tensors[index];
    return tensor ? [{ name: tensor.name, type: tensor.type, bytes: tensor.bytes, sha256: hash.digest("hex") }] : [];
  });
  return { sha256: whole.digest("hex"), tensors, problems };
}

function segmentsOf(
  { path, layout }: GgufFile,
  problems: Problem[],
  hashes: { hash: Hash; index: number }[],
): Segment[] {
  const { fileSize, dataOffset, alignment, tensors, descriptions, entries } = layout;
  const headerEnd = descriptions.at(-1)?.end ?? entries.at(-1)?.end ?? START;
  const segments: Segment[] = [{ begin: 0, end: headerEnd, unit: 1 }];
  let end = headerEnd;
  const addPadding = (to: number, after: string) => {
    segments.push({ begin: end, end: to, unit: 1, visit: zeros(path, after, problems) });
    end = to;
  };
  if (tensors.length > 0) addPadding(dataOffset, "the header");
  for (const [index, tensor] of tensors.entries()) {
    const { type = 0, blockBytes = 1, blockWeights = 1 } = descriptions[index] ?? {};
    const begin = dataOffset + tensor.offset;
    const hash = createHash("sha256");
    hashes.push({ hash, index });
    let isSound = true;
    const visit = async (chunk: Buffer, from: number) => {
      const search = isSound ? native().findInvalidWeight(chunk, type) : undefined;
      hash.update(chunk);
      const found = await search;
      if (found === undefined) return;
      isSound = false;
      const weight = ((from - begin) / blockBytes) * blockWeights + found;
      problems.push({
        kind: "weights",
        path,
        tensor: tensor.name,
        message: `The weight ${weight} of the tensor ${tensor.name} (${tensor.type}) is NaN or infinite.`,
      });
    };
    end = begin + tensor.bytes;
    segments.push({ begin, end, unit: blockBytes, visit });
    addPadding(Math.min(end + paddingAfter(tensor.bytes, alignment), fileSize), `the tensor ${tensor.name}`);
  }
  if (tensors.length === 0) addPadding(Math.min(end + paddingAfter(end, alignment), fileSize), "the header");
  if (end < fileSize) {
    problems.push({
      kind: "trailing",
      path,
      message: `${path} has ${fileSize - end} more bytes after its end, which no reader looks at.`,
    });
    segments.push({ begin: end, end: fileSize, unit: 1 });
  }
  return segments;
}

/** Magic, version, two counts. */
const START = 24;

function zeros(path: string, after: string, problems: Problem[]): Visit {
  let isSound = true;
  return (chunk, from) => {
    const at = isSound ? chunk.findIndex((byte) => byte !== 0) : -1;
    if (at < 0) return;
    isSound = false;
    problems.push({
      kind: "padding",
      path,
      message: `The padding after ${after} is not zero: byte ${from + at} of ${path} is ${chunk[at]}.`,
    });
  };
}
