// Writes a GGUF file tensor by tensor, through two buffers of a bounded size.

import { open, type FileHandle } from "node:fs/promises";
import { writeAtomically } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import { native, type WeightType } from "../native.js";
import { invalidCheckpoint } from "./errors.js";
import { BYTES_OF, bytesOf, encodeHeader, type Entry } from "./gguf-file.js";
import { unreadable } from "./json.js";
import type { CheckpointTensor } from "./safetensors.js";
import type { ComputedTensor, PlannedTensor } from "./weights.js";

export interface WriteOptions {
  /** Called with 0..1. */
  onProgress: ((fraction: number) => void) | undefined;
  signal: AbortSignal | undefined;
}

/** Of the checkpoint, read at once; a head or a row that is longer is read as a whole. */
const CHUNK = 8 * 2 ** 20;
const BYTES_OF_WEIGHT: Readonly<Record<WeightType, number>> = { ...BYTES_OF, F8_E4M3: 1, F8_E5M2: 1 };

/** The file appears under its name only when it is complete. */
export async function writeGguf(
  file: string,
  metadata: readonly Entry[],
  tensors: readonly (PlannedTensor | ComputedTensor)[],
  options: WriteOptions,
): Promise<void> {
  await writeAtomically([file], async ([partial = ""]) => {
    const output = await open(partial, "wx");
    try {
      await writeAll(output, metadata, tensors, options);
    } finally {
      await output.close();
    }
  });
}

async function writeAll(
  output: FileHandle,
  metadata: readonly Entry[],
  tensors: readonly (PlannedTensor | ComputedTensor)[],
  { onProgress, signal }: WriteOptions,
): Promise<void> {
  const { header, offsets } = encodeHeader(metadata, tensors);
  await write(output, header, 0);
  const total = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  const inputs = new InputFiles();
  const converter = new Converter();
  let done = 0;
  let end = header.length;
  try {
    for (const [i, tensor] of tensors.entries()) {
      let position = offsets[i] ?? end;
      // The gap before is at most 31 bytes.
      await write(output, Buffer.alloc(position - end), end);
      for await (const bytes of "values" in tensor ? [encode(tensor)] : converter.convert(tensor, inputs)) {
        if (signal?.aborted) throw aborted(signal);
        await write(output, bytes, position);
        position += bytes.length;
        done += bytes.length;
        onProgress?.(done / total);
      }
      end = position;
    }
    // Readers ask for the last tensor's padding, too.
    await write(output, Buffer.alloc((32 - (end % 32)) % 32), end);
  } finally {
    await inputs.close();
  }
}

/** Whole rows at a time; with heads to interleave, whole heads. */
class Converter {
  #source: Buffer = Buffer.alloc(0);
  #target: Buffer = Buffer.alloc(0);

  async *convert(tensor: PlannedTensor, inputs: InputFiles): AsyncGenerator<Uint8Array> {
    const { columns, interleave, add, type } = tensor;
    for (const source of tensor.sources) {
      const rowBytes = columns * BYTES_OF_WEIGHT[source.type];
      const rows = source.bytes / rowBytes;
      const unit = Math.max(interleave, 1);
      const step = unit * Math.max(1, Math.floor(CHUNK / (rowBytes * unit)));
      for (let row = 0; row < rows; row += step) {
        const count = Math.min(step, rows - row);
        const from = (this.#source = sized(this.#source, count * rowBytes));
        const to = (this.#target = sized(this.#target, count * columns * BYTES_OF[type]));
        await inputs.read(source, row * rowBytes, from.subarray(0, count * rowBytes));
        const fault = await native().convertWeights(
          from.subarray(0, count * rowBytes),
          source.type,
          to,
          type,
          columns,
          interleave,
          add,
        );
        if (fault) throw refusal(source, fault.kind, (row + fault.row) * columns + fault.column, type);
        yield to.subarray(0, count * columns * BYTES_OF[type]);
      }
    }
  }
}

function refusal(
  source: CheckpointTensor,
  kind: "notFinite" | "overflow",
  index: number,
  type: string,
): ColdstartError {
  const details = { tensor: source.name, index };
  return kind === "notFinite"
    ? invalidCheckpoint(`The weight ${index} of the tensor ${source.name} is NaN or infinite.`, details)
    : invalidCheckpoint(
        `The weight ${index} of the tensor ${source.name} is too large for ${type}.`,
        details,
        'Convert to the type "BF16" or "F32".',
      );
}

/** The same buffer as long as it is large enough. */
function sized(buffer: Buffer, bytes: number): Buffer {
  return buffer.length >= bytes ? buffer : Buffer.allocUnsafeSlow(bytes);
}

/** The one that was read last stays open. */
class InputFiles {
  #file: string | undefined;
  #handle: FileHandle | undefined;

  async read(source: CheckpointTensor, from: number, into: Uint8Array): Promise<void> {
    try {
      if (this.#file !== source.file) {
        await this.close();
        this.#handle = await open(source.file);
        this.#file = source.file;
      }
      const { bytesRead } = (await this.#handle?.read(into, 0, into.length, source.offset + from)) ?? { bytesRead: 0 };
      if (bytesRead === into.length) return;
    } catch (error) {
      throw unreadable(source.file, error);
    }
    throw invalidCheckpoint(`${source.file} became shorter while it was read.`, { path: source.file });
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    this.#file = undefined;
  }
}

function encode({ values }: ComputedTensor): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i));
  return bytes;
}

async function write(output: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await output.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

export function aborted(signal: AbortSignal): ColdstartError {
  return new ColdstartError("ABORTED", "Converting was aborted.", {
    remedy: "Nothing was kept; convert again when needed.",
    cause: signal.reason,
  });
}
