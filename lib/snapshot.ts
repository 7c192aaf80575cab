// Saved sessions as bytes. Pure.
//
// A snapshot is: 8 bytes of magic, a 32-bit length, a header of that length as JSON, the tokens as 32-bit integers, the
// state as llama.cpp writes it, and the SHA-256 of all that. Numbers are little-endian.
//
// The checksum finds damage. It does not prove who wrote the file, and llama.cpp trusts what it parses: so a state is
// taken only when its structure is, field by field, the one that the same model in the same context writes.

import { createHash } from "node:crypto";
import { ColdstartError } from "./errors.js";

/** What a state belongs to; a snapshot fits where all of this is equal. */
export interface SnapshotOrigin {
  /** Of the model file. */
  fingerprint: string;
  /** Of llama.cpp. */
  release: string;
  keyType: string;
  valueType: string;
  layout: string;
  parallel: number;
}

export interface SnapshotContent {
  tokens: Int32Array;
  state: Uint8Array;
}

const MAGIC = Buffer.from("COLDKV\0\x01", "latin1");
const CHECKSUM_BYTES = 32;

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

export function encodeSnapshot(origin: SnapshotOrigin, { tokens, state }: SnapshotContent): Uint8Array {
  const header = Buffer.from(JSON.stringify({ ...origin, tokens: tokens.length, stateBytes: state.length }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  const tokenBytes = Buffer.alloc(tokens.length * 4);
  tokens.forEach((token, i) => tokenBytes.writeInt32LE(token, i * 4));
  const body = Buffer.concat([MAGIC, length, header, tokenBytes, state]);
  return Buffer.concat([body, sha256(body)]);
}

/** Throws `INVALID_SNAPSHOT`. */
export function decodeSnapshot(bytes: Uint8Array, origin: SnapshotOrigin): SnapshotContent {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerAt = MAGIC.length + 4;
  if (file.length < headerAt + CHECKSUM_BYTES || !file.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw invalid("It is not a coldstart snapshot.", { bytes: file.length });
  }
  const body = file.subarray(0, -CHECKSUM_BYTES);
  if (!sha256(body).equals(file.subarray(-CHECKSUM_BYTES)))
    throw invalid("Its checksum does not match: it is damaged.");
  const tokensAt = headerAt + body.readUInt32LE(MAGIC.length);
  const header = parseHeader(body.subarray(headerAt, Math.min(tokensAt, body.length)));
  for (const key of Object.keys(origin) as (keyof SnapshotOrigin)[]) {
    if (header[key] === origin[key]) continue;
    throw invalid(`It was made with another ${NAMES[key]}: ${String(header[key])} instead of ${origin[key]}.`, {
      field: key,
    });
  }
  const { tokens: count, stateBytes } = header;
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isCount(count) || !isCount(stateBytes) || count === 0 || tokensAt + count * 4 + stateBytes !== body.length) {
    throw invalid("Its parts do not add up.");
  }
  const tokens = Int32Array.from({ length: count }, (_, i) => body.readInt32LE(tokensAt + i * 4));
  // A copy: the caller's bytes may change.
  return { tokens, state: Uint8Array.from(body.subarray(tokensAt + count * 4)) };
}

const NAMES: Record<keyof SnapshotOrigin, string> = {
  fingerprint: "model",
  release: "llama.cpp",
  keyType: "kvCache.keyType",
  valueType: "kvCache.valueType",
  layout: "kvCache.layout",
  parallel: "parallel",
};

function parseHeader(bytes: Buffer): Record<string, unknown> {
  try {
    const header: unknown = JSON.parse(bytes.toString());
    if (typeof header === "object" && header !== null) return header as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw invalid("Its header is not JSON.");
}

/** One KV cache of a state: models with sliding windows have two. */
interface CacheState {
  /** Of the cells, in the order of the data. */
  positions: number[];
  /** Everything but numbers of cells and their contents. */
  structure: string;
}

/** Takes a state of one sequence apart; undefined when it is of a kind that is not known here. */
function parseState(state: Uint8Array): CacheState[] | undefined {
  const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
  let at = 0;
  const u32 = () => bytes.readUInt32LE((at += 4) - 4);
  const u64 = () => bytes.readBigUInt64LE((at += 8) - 8);
  const skip = (count: bigint) => {
    if (count > BigInt(bytes.length - at)) throw new RangeError();
    at += Number(count);
  };
  const caches: CacheState[] = [];
  try {
    const magic = u32();
    u32(); // The sequence it was saved from.
    while (at < bytes.length) {
      const streams = u32();
      const structure: unknown[] = [magic, streams];
      const positions: number[] = [];
      for (let stream = 0; stream < streams; stream++) {
        const cells = u32();
        if (cells === 0) continue;
        if (cells > (bytes.length - at) / 12) return undefined;
        for (let cell = 0; cell < cells; cell++) {
          positions.push(bytes.readInt32LE(at));
          at += 4;
          if (u32() !== 1) return undefined; // Sequences of the cell.
          u32(); // The sequence.
        }
        const transposed = u32();
        const layers = u32();
        structure.push(transposed, layers);
        for (let layer = 0; layer < layers; layer++) {
          const [type, row] = [u32(), u64()];
          structure.push(type, row.toString());
          skip(row * BigInt(cells));
        }
        for (let layer = 0; layer < layers; layer++) {
          const type = u32();
          const row = transposed === 1 ? BigInt(u32()) * BigInt(u32()) : u64();
          structure.push(type, row.toString());
          skip(row * BigInt(cells));
        }
      }
      caches.push({ positions, structure: structure.join() });
    }
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return caches;
}

/** Whether states like this one can be checked, and so be loaded again. */
export function isCheckable(state: Uint8Array): boolean {
  return parseState(state) !== undefined;
}

/**
 * Refuses a state that this model would not have written for so many tokens.
 * `sample` is one that it did write, in the same context. Throws `INVALID_SNAPSHOT`.
 */
export function checkState(state: Uint8Array, tokens: number, sample: Uint8Array): void {
  const expected = parseState(sample);
  const found = parseState(state);
  const fits =
    expected !== undefined &&
    found?.length === expected.length &&
    found.every(({ positions, structure }, i) => {
      const distinct = new Set(positions);
      return (
        structure === expected[i]?.structure &&
        distinct.size === positions.length &&
        // All positions, but in the cache of a sliding window only the last ones.
        (i > 0 ? positions.length <= tokens : positions.length === tokens) &&
        positions.every((position) => position >= tokens - positions.length && position < tokens)
      );
    });
  if (!fits) throw invalid("Its state does not have the structure that this model writes.");
}

function invalid(what: string, details: Record<string, unknown> = {}): ColdstartError {
  return new ColdstartError("INVALID_SNAPSHOT", `The snapshot was refused. ${what}`, {
    remedy: "Save the session again with this model and these load options, or build it again from its text.",
    details,
  });
}
