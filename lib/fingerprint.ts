import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { NativeRecipe } from "./native.js";

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/**
 * Tells model files apart without reading all of them: the SHA-256 of the size, of the header (metadata, names and shapes
 * of tensors) and of pieces of the weights, spread evenly.
 *
 * @param headerBytes where the weights start
 * @param recipe what they are quantized with
 */
export async function fingerprint(file: string, headerBytes: number, recipe?: NativeRecipe): Promise<string> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const hash = createHash("sha256").update(`${size}\n`);
    const add = async (position: number, length: number) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
      hash.update(buffer.subarray(0, bytesRead));
    };
    if (recipe) hash.update(`${JSON.stringify(recipe)}\n`);
    await add(0, headerBytes);
    const weightBytes = size - headerBytes;
    for (let i = 0; i < SAMPLES; i++) await add(headerBytes + Math.floor((weightBytes * i) / SAMPLES), SAMPLE_BYTES);
    return hash.digest("hex");
  } finally {
    await handle.close();
  }
}
