import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { inspectGguf } from "./gguf/inspect-gguf.js";
import type { ModelSource } from "./model-source.js";
import { native, type NativeRecipe } from "./native.js";

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/**
 * Tells models apart without reading all of them: the SHA-256 of each file's size, of its header (metadata, names and shapes
 * of tensors) and of pieces of its weights, spread evenly.
 *
 * @param use what the model is quantized with, and its adapters
 */
export async function fingerprint(
  { path, checkpoint }: ModelSource,
  { quantize, adapters = [] }: { quantize?: NativeRecipe; adapters?: readonly [path: string, scale: number][] },
): Promise<string> {
  const hash = createHash("sha256");
  if (quantize) hash.update(`${JSON.stringify(quantize)}\n`);
  for (const [adapter, scale] of adapters) hash.update(`${scale}\n`).update(await fingerprintFile(adapter, 0));
  if (checkpoint) {
    // Of config.json and the tokenizer, all that counts is in the header.
    hash.update(checkpoint.header);
    for (const file of checkpoint.files) hash.update(await fingerprintFile(file, 0));
  } else {
    for (const file of await native().modelFiles(path)) {
      const { dataOffset } = await inspectGguf(file, { arrayLimit: 0 });
      hash.update(await fingerprintFile(file, dataOffset));
    }
  }
  return hash.digest("hex");
}

/** @param headerBytes where the weights start */
async function fingerprintFile(file: string, headerBytes: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const hash = createHash("sha256").update(`${size}\n`);
    const add = async (position: number, length: number) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
      hash.update(buffer.subarray(0, bytesRead));
    };
    await add(0, headerBytes);
    const weightBytes = size - headerBytes;
    for (let i = 0; i < SAMPLES; i++) await add(headerBytes + Math.floor((weightBytes * i) / SAMPLES), SAMPLE_BYTES);
    return hash.digest();
  } finally {
    await handle.close();
  }
}
