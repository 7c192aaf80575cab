import { randomInt } from "node:crypto";
import { Adapters } from "./adapters.js";
import { loadedPlugins } from "./backends.js";
import { AUTO_PROJECTOR, checkLoad, type CheckedLoad, type PlacementWishes } from "./check-load.js";
import { withAvailableMemory } from "./devices.js";
import { POOLINGS } from "./embed.js";
import { Engine, type StartEngine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import { fingerprint } from "./fingerprint.js";
import { pullModel } from "./hub/pull-model.js";
import { isSpec } from "./hub/spec.js";
import { RemoteEngine } from "./isolation/remote-engine.js";
import { withPlanning } from "./isolation/with-planning.js";
import type { LoadOptions } from "./load-options.js";
import { Model, type Placement } from "./model.js";
import { openLoad, toPlan, type OpenedLoad } from "./model-source.js";
import type { NativeAdapter, NativeEngineOptions, NativeLoaded } from "./native.js";
import { countExtras } from "./placement/extras.js";
import { reserveOf } from "./placement/fit.js";
import { outOfMemory, refuseHopeless, rungs } from "./placement/out-of-memory.js";
import { Placer, type Placed } from "./placement/placer.js";
import type { Planning } from "./placement/planning.js";
import { fromQuantizeCache } from "./quantization/cache.js";
import type { SnapshotOrigin } from "./snapshot.js";
import { version } from "./version.js";
import type { Worker } from "./workers/probe.js";

/**
 * Loads a GGUF model, or the model in a folder in Hugging Face's layout (see `convertModel()`). Of a split model, give the
 * first file. A name such as `"hf:owner/repo:Q4_K_M"` is fetched first, what is missing of it (see `pullModel()`).
 *
 * Everything slow happens off the JavaScript thread. The header is checked before llama.cpp sees the file, and where the
 * model goes is decided before its weights are read (see `planModel()`).
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `OUT_OF_MEMORY`,
 * `BACKEND_UNAVAILABLE` (with `strict`), `LOAD_FAILED`, `NUMERIC_ERROR` (with `quantize`: weights out of the type's range),
 * `WRITE_FAILED` (with `quantizeCache` and `strict`), `WORKER_UNREACHABLE`, `WORKER_MISMATCH`, `DOWNLOAD_FAILED`, `ENGINE_CRASHED`, `ABORTED`,
 * `NATIVE_ADDON_MISSING`.
 */
export async function loadModel(path: string | URL, options: LoadOptions = {}): Promise<Model> {
  // Options first: a model may take an hour to come.
  if (isSpec(path)) checkLoad("model.gguf", options);
  const file = isSpec(path) ? await fetchFirst(path, options) : path;
  const checked = checkLoad(file, options);
  const { signal } = checked;
  if (signal?.aborted) throw aborted(signal);
  const model = await loadChecked(checked).catch((error: unknown) => {
    throw signal?.aborted ? aborted(signal) : error;
  });
  for (const note of model.placement.notes) process.emitWarning(note, { type: "ColdstartWarning" });
  return model;
}

async function fetchFirst(spec: string, { signal, mmproj }: LoadOptions): Promise<string> {
  return (await pullModel(spec, { mmproj: mmproj === AUTO_PROJECTOR, ...(signal && { signal }) })).path;
}

async function loadChecked(checked: CheckedLoad): Promise<Model> {
  const opened = await withQuantizeCache(await openLoad(checked));
  return withPlanning(opened, (planning, workers) => load(opened, planning, workers));
}

/** What is loaded: the model, or a quantized file of it. */
async function withQuantizeCache(opened: OpenedLoad): Promise<OpenedLoad> {
  const { quantizeCache, native } = opened;
  if (quantizeCache === undefined || native.quantize === undefined) return opened;
  return fromQuantizeCache(opened, quantizeCache, native.quantize);
}

async function load(checked: OpenedLoad, planning: Planning, workers: Worker[]): Promise<Model> {
  const { source, wishes, seed, onProgress, signal } = checked;
  const extra = await countExtras(checked.native);
  const placer = new Placer(toPlan(source), checked, planning, extra);
  const placed = await placer.place();

  const start = async (candidate: Placed): Promise<Model> => {
    refuseHopeless(candidate);
    const where = await placeToStart(checked, candidate.native, workers);
    const options = { ...candidate.native, ...(source.checkpoint && { checkpoint: source.checkpoint }) };
    const { engine, loaded } = await open(options, onProgress, signal, where.start);
    return toModel(engine, candidate, { source, wishes, seed }, loaded, where.pid());
  };
  return start(placed).catch((error: unknown) => {
    if (!isOutOfMemory(error)) throw error;
    return wishes.retry ? retry(placer, placed, error, start) : Promise.reject(outOfMemory(error, placed.plan));
  });
}

/** In this process, or in one of its own that has the same backends. */
async function placeToStart(
  { isIsolated }: CheckedLoad,
  { devices }: NativeEngineOptions,
  workers: Worker[],
): Promise<{ start: StartEngine | undefined; pid: () => number }> {
  if (!isIsolated) return { start: undefined, pid: () => process.pid };
  const backends = devices.length === 0 ? [] : await loadedPlugins();
  let pid = process.pid;
  const start: StartEngine = (options, onEvents) => {
    const remote = new RemoteEngine(options, backends, devices.length === 0 ? [] : workers, onEvents);
    pid = remote.pid ?? pid;
    return remote;
  };
  return { start, pid: () => pid };
}

/** Down the ladder, one rung after the other, as far as it has to be. */
async function retry(
  placer: Placer,
  placed: Placed,
  first: ColdstartError,
  start: (candidate: Placed) => Promise<Model>,
): Promise<Model> {
  let last = first;
  let tried: string[] = [];
  for await (const { changes, candidate } of rungs(placer, placed)) {
    tried = changes;
    const note = `Memory was refused (${first.message.split(". ")[0]}); loaded after: ${tried.join(", ")}.`;
    try {
      return await start({ ...candidate, plan: { ...candidate.plan, notes: [...placed.plan.notes, note] } });
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      last = error;
    }
  }
  throw outOfMemory(last, placed.plan, tried);
}

function isOutOfMemory(error: unknown): error is ColdstartError {
  return error instanceof ColdstartError && error.code === "OUT_OF_MEMORY";
}

async function open(
  native: NativeEngineOptions,
  onProgress: LoadOptions["onProgress"],
  signal: AbortSignal | undefined,
  startEngine: StartEngine | undefined,
): Promise<{ engine: Engine; loaded: NativeLoaded }> {
  if (signal?.aborted) throw aborted(signal);
  let thrown: { error: unknown } | undefined;
  const report = (fraction: number) => {
    try {
      onProgress?.(fraction);
    } catch (error) {
      thrown ??= { error };
      void engine.close();
    }
  };
  const engine = new Engine(native, report, startEngine);
  const abort = () => void engine.close();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const loaded = await engine.loaded;
    if (engine.ended) throw engine.ended; // Given up in the meantime.
    return { engine, loaded };
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

function toPlacement(
  { native, plan }: Placed,
  { reserves }: PlacementWishes,
  loaded: NativeLoaded,
): Omit<Placement, "pid"> {
  const { contextLength, trainedContextLength } = loaded;
  const notes = [...plan.notes, ...loaded.notes];
  if (contextLength > trainedContextLength) {
    notes.push(
      `contextLength is ${contextLength}, and the model was trained for ${trainedContextLength}: expect worse text beyond that.`,
    );
  }
  const devices = loaded.devices.map((device) => {
    const { memoryTotal: total, memoryFree: free, ...rest } = withAvailableMemory(device);
    const placed = { ...rest, total, free };
    return { ...placed, reserve: reserveOf({ ...placed, beyond: 0 }, reserves) };
  });
  return {
    ...plan,
    contextLength,
    kvCache: { ...plan.kvCache, capacity: loaded.kvCells },
    gpuLayers: loaded.gpuLayers,
    gpuSampling: loaded.gpuSampling,
    loadMode: loaded.loadMode,
    prefetch: loaded.prefetch,
    threads: native.threads,
    devices,
    notes,
  };
}

function toModel(
  engine: Engine,
  placed: Placed,
  { source, wishes, seed }: Pick<OpenedLoad, "source" | "wishes" | "seed">,
  loaded: NativeLoaded,
  pid: number,
): Model {
  const { native } = placed;
  const { header, trainedContextLength } = loaded;
  const text = (key: string) => (typeof header.metadata[key] === "string" ? header.metadata[key] : undefined);
  const placement = { ...toPlacement(placed, wishes, loaded), pid };
  let next = seed;
  const nextSeed = () => {
    if (next === undefined) return randomInt(2 ** 32 - 1);
    const value = next;
    next = (next + 1) % (2 ** 32 - 1);
    return value;
  };
  const info = {
    path: native.path,
    adapters: native.adapters.map(([path, scale]) => ({ path, scale })),
    architecture: text("general.architecture") ?? "",
    name: text("general.name"),
    description: loaded.description,
    parameters: loaded.parameters,
    quantization: loaded.quantization,
    weightBytes: loaded.weightBytes,
    contextLength: trainedContextLength,
    layers: loaded.layers,
    embeddingLength: loaded.embeddingLength,
    generates: loaded.generates,
    images: loaded.sees,
    audio: loaded.hears,
    pooling: loaded.pooling === 0 ? undefined : POOLINGS[loaded.pooling],
    vocabulary: {
      size: loaded.vocabularySize,
      type: text("tokenizer.ggml.model") ?? "",
      bos: loaded.bos < 0 ? undefined : loaded.bos,
      eos: loaded.eos < 0 ? undefined : loaded.eos,
    },
    chatTemplate: loaded.chatTemplate === "" ? undefined : loaded.chatTemplate,
    metadata: header.metadata,
  };
  const origins = new Map<string, Promise<SnapshotOrigin>>();
  const readOrigin = async (adapters: [path: string, scale: number][]): Promise<SnapshotOrigin> => ({
    fingerprint: await fingerprint(source, { ...native, adapters }),
    release: version().llamaCpp,
    keyType: native.keyType,
    valueType: native.valueType,
    layout: placement.kvCache.layout,
    parallel: native.kvUnified ? 0 : native.parallel,
  });
  const originOf = (adapters: [path: string, scale: number][]) => {
    const key = JSON.stringify(adapters);
    const origin = origins.get(key) ?? readOrigin(adapters);
    origins.set(key, origin);
    return origin;
  };
  const adapters = new Adapters(
    engine,
    info.adapters.map((adapter, i) => ({ ...adapter, ...(loaded.adapters[i] as NativeAdapter) })),
  );
  return new Model(engine, info, placement, { adapters, nextSeed, mediaMarker: loaded.mediaMarker, origin: originOf });
}
