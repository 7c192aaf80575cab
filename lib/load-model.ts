import { randomInt } from "node:crypto";
import { withAvailableMemory } from "./devices.js";
import { Engine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import { fingerprint } from "./fingerprint.js";
import { checkLoad, type LoadOptions } from "./load-options.js";
import { Model, type Placement } from "./model.js";
import type { NativeEngineOptions, NativeLoaded } from "./native.js";

import type { SnapshotOrigin } from "./snapshot.js";
import { version } from "./version.js";

/**
 * Loads a GGUF model. Of a split model, give the first file.
 *
 * Everything slow happens off the JavaScript thread. The header is checked before llama.cpp sees the file.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `OUT_OF_MEMORY`,
 * `LOAD_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function loadModel(path: string | URL, options: LoadOptions = {}): Promise<Model> {
  const { native, notes, seed, onProgress, signal } = checkLoad(path, options);
  if (signal?.aborted) throw aborted(signal);

  let thrown: { error: unknown } | undefined;
  const engine = new Engine(native, (fraction) => {
    try {
      onProgress?.(fraction);
    } catch (error) {
      thrown ??= { error };
      void engine.close();
    }
  });
  const abort = () => void engine.close();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const loaded = await engine.loaded;
    if (engine.ended) throw engine.ended; // Given up in the meantime.
    const model = toModel(engine, native, loaded, notes, seed);
    for (const note of notes) process.emitWarning(note, { type: "ColdstartWarning" });
    return model;
  } catch (error) {
    await engine.close();
    if (thrown) throw thrown.error;
    if (signal?.aborted) throw aborted(signal);
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

function aborted(signal: AbortSignal): ColdstartError {
  return new ColdstartError("ABORTED", "Loading was aborted.", {
    remedy: "Nothing was kept; load again when needed.",
    cause: signal.reason,
  });
}

function toPlaced(device: NativeLoaded["devices"][number]): Placement["devices"][number] {
  const { memoryTotal: total, memoryFree: free, ...rest } = withAvailableMemory(device);
  return { ...rest, total, free };
}

function toModel(
  engine: Engine,
  native: NativeEngineOptions,
  loaded: NativeLoaded,
  notes: string[],
  seed: number | undefined,
): Model {
  const { header, devices, contextLength, gpuLayers, trainedContextLength } = loaded;
  if (contextLength > trainedContextLength) {
    notes.push(
      `contextLength is ${contextLength}, and the model was trained for ${trainedContextLength}: expect worse text beyond that.`,
    );
  }
  const text = (key: string) => (typeof header.metadata[key] === "string" ? header.metadata[key] : undefined);
  const placement: Placement = {
    contextLength,
    kvCache: { layout: native.kvUnified ? "unified" : "split", capacity: loaded.kvCells },
    gpuLayers,
    threads: native.threads,
    devices: devices.map(toPlaced),
    notes,
  };
  let next = seed;
  const nextSeed = () => {
    if (next === undefined) return randomInt(2 ** 32 - 1);
    const value = next;
    next = (next + 1) % (2 ** 32 - 1);
    return value;
  };
  const info = {
    path: native.path,
    architecture: text("general.architecture") ?? "",
    name: text("general.name"),
    description: loaded.description,
    parameters: loaded.parameters,
    quantization: loaded.quantization,
    weightBytes: loaded.weightBytes,
    contextLength: trainedContextLength,
    layers: loaded.layers,
    embeddingLength: loaded.embeddingLength,
    vocabulary: {
      size: loaded.vocabularySize,
      type: text("tokenizer.ggml.model") ?? "",
      bos: loaded.bos < 0 ? undefined : loaded.bos,
      eos: loaded.eos < 0 ? undefined : loaded.eos,
    },
    chatTemplate: loaded.chatTemplate === "" ? undefined : loaded.chatTemplate,
    metadata: header.metadata,
  };
  let origin: Promise<SnapshotOrigin> | undefined;
  const readOrigin = async (): Promise<SnapshotOrigin> => ({
    fingerprint: await fingerprint(native.path, header.dataOffset),
    release: version().llamaCpp,
    keyType: native.keyType,
    valueType: native.valueType,
    layout: placement.kvCache.layout,
    parallel: native.kvUnified ? 0 : native.parallel,
  });
  return new Model(engine, info, placement, nextSeed, () => (origin ??= readOrigin()));
}
