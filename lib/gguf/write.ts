// Files made of bytes and of ranges of other files, copied through one buffer of a bounded size.

import { open, type FileHandle } from "node:fs/promises";
import { ColdstartError } from "../errors.js";
import { encodeStart, paddingAfter, u64 } from "./encode.js";
import { invalidModel, type GgufFile } from "./parts.js";

/** Bytes, or where they are. */
export type Piece = Uint8Array | FileRange;

export interface FileRange {
  path: string;
  begin: number;
  end: number;
}

export const lengthOf = (piece: Piece): number => ("path" in piece ? piece.end - piece.begin : piece.length);
export const totalOf = (pieces: readonly Piece[]): number => pieces.reduce((sum, piece) => sum + lengthOf(piece), 0);

/** A tensor to copy: its description without the offset, and its bytes. */
export interface CopiedTensor {
  description: Uint8Array;
  data: FileRange;
}

/** The tensors of a file. Its descriptions are read as a whole, which `readGguf` bounds. */
export async function tensorsOf({ path, layout }: GgufFile): Promise<CopiedTensor[]> {
  const { descriptions, tensors, dataOffset } = layout;
  const begin = descriptions[0]?.begin ?? 0;
  const bytes = await readRange({ path, begin, end: descriptions.at(-1)?.end ?? begin });
  return tensors.flatMap((tensor, i) => {
    const at = descriptions[i];
    const from = dataOffset + tensor.offset;
    return at === undefined
      ? []
      : [
          {
            description: bytes.subarray(at.begin - begin, at.end - begin - 8),
            data: { path, begin: from, end: from + tensor.bytes },
          },
        ];
  });
}

/** A whole GGUF file: its header, and what follows it. */
export function composeFile(
  { version, alignment }: { version: number; alignment: number },
  entries: readonly (readonly Piece[])[],
  tensors: readonly CopiedTensor[],
): { header: Piece[]; data: Piece[] } {
  const header: Piece[] = [encodeStart(version, tensors.length, entries.length), ...entries.flat()];
  const data: Piece[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    header.push(tensor.description, u64(offset));
    const bytes = lengthOf(tensor.data);
    // Readers ask for the last tensor's padding, too.
    const padding = paddingAfter(bytes, alignment);
    data.push(tensor.data, Buffer.alloc(padding));
    offset += bytes + padding;
  }
  header.push(Buffer.alloc(paddingAfter(totalOf(header), alignment)));
  return { header, data };
}

const BUFFER = 8 * 2 ** 20;

/** Writes pieces into new files, and says how far it is. */
export class PieceWriter {
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER);
  readonly #total: number;
  readonly #onProgress: ((fraction: number) => void) | undefined;
  readonly #checkAborted: () => void;
  #done = 0;

  constructor(total: number, onProgress: ((fraction: number) => void) | undefined, checkAborted: () => void) {
    this.#total = total;
    this.#onProgress = onProgress;
    this.#checkAborted = checkAborted;
  }

  async write(path: string, pieces: readonly Piece[]): Promise<void> {
    const output = await open(path, "wx");
    const inputs = new InputFile();
    let [position, filled] = [0, 0];
    const flush = async () => {
      this.#checkAborted();
      await writeAt(output, this.#buffer.subarray(0, filled), position);
      position += filled;
      this.#done += filled;
      filled = 0;
      this.#onProgress?.(this.#total === 0 ? 1 : this.#done / this.#total);
    };
    try {
      for (const piece of pieces) {
        for (let at = 0; at < lengthOf(piece);) {
          const count = Math.min(BUFFER - filled, lengthOf(piece) - at);
          const into = this.#buffer.subarray(filled, filled + count);
          if ("path" in piece) await inputs.read(piece.path, piece.begin + at, into);
          else into.set(piece.subarray(at, at + count));
          at += count;
          filled += count;
          if (filled === BUFFER) await flush();
        }
      }
      await flush();
    } finally {
      await Promise.all([inputs.close(), output.close()]);
    }
  }
}

/** Reads from files; the one that was read last stays open. Throws `LOAD_FAILED`, `INVALID_GGUF`. */
export class InputFile {
  #path: string | undefined;
  #handle: FileHandle | undefined;

  async read(path: string, from: number, into: Uint8Array): Promise<void> {
    try {
      if (this.#path !== path) {
        await this.close();
        this.#handle = await open(path);
        this.#path = path;
      }
      for (let done = 0; done < into.length;) {
        const result = await this.#handle?.read(into, done, into.length - done, from + done);
        if (!result?.bytesRead) throw invalidModel(`${path} became shorter while it was read.`, { path });
        done += result.bytesRead;
      }
    } catch (error) {
      if (error instanceof ColdstartError) throw error;
      throw new ColdstartError("LOAD_FAILED", `${path} cannot be read: ${(error as Error).message}.`, {
        remedy: "Check the file and its permissions.",
        details: { path },
        cause: error,
      });
    }
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    this.#path = undefined;
  }
}

/** Throws `LOAD_FAILED`, `INVALID_GGUF`. */
export async function readRange({ path, begin, end }: FileRange): Promise<Buffer> {
  const bytes = Buffer.alloc(end - begin);
  const input = new InputFile();
  try {
    if (bytes.length > 0) await input.read(path, begin, bytes);
  } finally {
    await input.close();
  }
  return bytes;
}

export async function writeAt(output: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await output.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
