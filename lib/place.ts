// Decides where a model goes, before a byte of its weights is read.

import { whyNoGpu } from "./backends.js";
import { withAvailableMemory } from "./devices.js";
import { ColdstartError } from "./errors.js";
import { fit, reserveOf, type Choice, type Demand, type Device, type Fit, type Wishes } from "./fit.js";
import { DEFAULT_CONTEXT, DEFAULT_PARALLEL, type CheckedLoad, type PlacementWishes } from "./load-options.js";
import type { Planning, Planner } from "./planning.js";
import type { NativeDevice, NativeDeviceMemory, NativeEngineOptions } from "./native.js";
import { invalidOption } from "./options.js";
import { formatBytes } from "./units.js";

/** A device and what a model takes of it. Bytes. */
export interface DevicePlan {
  /** `"CPU"`, `"CUDA0"`, … */
  name: string;
  /** `"CPU"`, `"CUDA"`, …; `"RPC"` of a worker. */
  backend: string;
  /** `"AMD EPYC"`, `"NVIDIA H100"`, …; of a worker's device the worker's `"host:port"`. */
  description: string;
  /** Layers whose weights are there; the output layer is not counted. */
  layers: number;
  /** Memory of the device. */
  total: number;
  /** Of it free: in a plan before loading, in a placement just after. */
  free: number;
  weights: number;
  kvCache: number;
  /** Buffers for intermediate results. */
  compute: number;
  /** What is to be kept free: `memory.headroom` and `memory.leaveFree`. */
  reserve: number;
}

/** What is to be loaded where. */
export interface Plan {
  /** Whether all of it fits, with what is to be kept free. */
  fits: boolean;
  /** Most tokens of one generation. */
  contextLength: number;
  /** Layers on GPUs; the output layer counts as one. */
  gpuLayers: number;
  /** All layers, counted in the same way. */
  layers: number;
  /** Most generations at the same time. */
  parallel: number;
  kvCache: {
    /** One pool of tokens for all generations, or one for each. */
    layout: "unified" | "split";
    /** Tokens, over all pools. */
    capacity: number;
  };
  /** The CPU, and the GPUs in use. */
  devices: DevicePlan[];
  /** Why it was decided so. */
  reasons: { devices: string; gpuLayers: string; contextLength: string; parallel: string };
  /** What is not as one might expect, and why. */
  notes: string[];
}

/** A plan, and the engine's options that carry it out. */
export interface Placed {
  native: NativeEngineOptions;
  plan: Plan;
}

/** Decides on loading the model at `source`, or the one with these headers. */
export class Placer {
  readonly #checked: CheckedLoad;
  readonly #planning: Planning;
  readonly #planner: Planner;
  readonly #draft: Planner | undefined;

  constructor(source: string | Uint8Array[], checked: CheckedLoad, planning: Planning) {
    this.#checked = checked;
    this.#planning = planning;
    this.#planner = planning.planner(source);
    const { speculation, draftModel } = checked.native;
    if (speculation === "draft") this.#draft = planning.planner(draftModel);
  }

  /**
   * The best that fits. `fits` is false in the plan where nothing does.
   *
   * With `strict`, rejects with `BACKEND_UNAVAILABLE` or `OUT_OF_MEMORY` where something would fall back.
   */
  async place(extra: (demand: Demand) => void = () => undefined): Promise<Placed> {
    const { wishes, notes: given } = this.#checked;
    const notes = [...given];
    const gpus = wishes.gpuLayers === 0 ? [] : await this.#chooseGpus(notes);
    const placed = await this.#placeOn(gpus, notes, extra);
    if (gpus.length === 0 || placed.plan.gpuLayers > 0 || typeof wishes.gpuLayers === "number") return placed;
    // A GPU without a layer would still be used for large batches, and take memory for that.
    this.#fallBack(notes, "OUT_OF_MEMORY", `No layer fits ${names(gpus)}: all are on the CPU.`);
    return this.#placeOn([], notes, extra);
  }

  async #placeOn(devices: NativeDevice[], notes: string[], extra: (demand: Demand) => void): Promise<Placed> {
    const { wishes } = this.#checked;
    checkRows(this.#checked.native, devices);
    const options: NativeEngineOptions = {
      ...this.#checked.native,
      devices: devices.map(({ name }) => name),
      mainDevice: mainDevice(wishes.mainDevice, devices),
      tensorSplit: tensorSplit(wishes, devices),
    };
    const measure = async (choice: Choice) => {
      const demand = await this.#measure({ ...options, ...choice });
      extra(demand);
      return demand;
    };
    const found = await fit(measure, toWishes(wishes, devices), wishes.reserves, canMap(options));
    // What does not fit into memory has to stay in the file.
    if (found.paging && options.loadMode === "auto") options.loadMode = "mmap";
    const { contextLength } = found.demand;
    const plan = toPlan(found, options, wishes, contextLength, notes);
    plan.reasons.devices = whyDevices(wishes, devices);
    this.#complain(found, plan);
    return { native: { ...options, ...found.choice, contextLength }, plan };
  }

  /** What an engine with these options would take. */
  async measure(options: NativeEngineOptions): Promise<Demand> {
    return this.#measure(options);
  }

  async #measure(options: NativeEngineOptions): Promise<Demand> {
    const demand = await measureAnyLength(this.#planner, options);
    const devices = demand.devices.map((memory) => this.#toDevice(memory));
    if (this.#draft) {
      const draft = await measureAnyLength(this.#draft, draftOptions(options, demand.kvCells));
      for (const memory of draft.devices) add(devices, this.#toDevice(memory));
    }
    return { ...demand, devices };
  }

  #toDevice(memory: NativeDeviceMemory): Device {
    const { memoryTotal: total, memoryFree, ...rest } = withAvailableMemory(memory);
    return { ...rest, total, free: Math.min(memoryFree, this.#checked.wishes.limits[memory.name] ?? Infinity) };
  }

  async #chooseGpus(notes: string[]): Promise<NativeDevice[]> {
    const { wishes } = this.#checked;
    const backends = await this.#planning.backends();
    const all = (await this.#planning.devices()).filter(({ type }) => type === "gpu" || type === "igpu");
    if (wishes.devices) {
      return wishes.devices.map((name) => {
        const device = all.find((one) => one.name === name);
        if (device) return device;
        throw invalidOption(
          "devices",
          name,
          all.length === 0 ? `left out: ${whyNoGpu(backends)}` : `among ${names(all)}`,
        );
      });
    }
    const chosen = defaultGpus(all);
    if (chosen.length === 0) {
      const why = whyNoGpu(backends);
      const asked = wishes.gpuLayers === "max" || typeof wishes.gpuLayers === "number";
      if (asked || backends.some(({ status }) => status === "refused")) {
        this.#fallBack(
          notes,
          "BACKEND_UNAVAILABLE",
          `${asked ? `gpuLayers is ${wishes.gpuLayers}, and no GPU was found` : "No GPU is used"}: ${why}. All layers are on the CPU.`,
        );
      }
    }
    return chosen;
  }

  /** A note, or with `strict` an error. */
  #fallBack(notes: string[], code: "BACKEND_UNAVAILABLE" | "OUT_OF_MEMORY", what: string): void {
    if (this.#checked.wishes.strict) {
      throw new ColdstartError(code, what, {
        remedy: "Correct it, or load without strict to go on all the same.",
        details: { strict: true },
      });
    }
    notes.push(what);
  }

  #complain({ paging, demand }: Fit, plan: Plan): void {
    const { wishes } = this.#checked;
    const { notes } = plan;
    if (paging) {
      this.#fallBack(
        notes,
        "OUT_OF_MEMORY",
        "The weights in host memory are larger than what is free of it: they are read from the disk again and again, which is slow.",
      );
    }
    const usual = Math.min(demand.trainedContextLength, DEFAULT_CONTEXT);
    if (wishes.contextLength === undefined && plan.contextLength < usual && this.#checked.native.kvCells === 0) {
      this.#fallBack(notes, "OUT_OF_MEMORY", `contextLength is ${plan.contextLength} instead of ${usual}: memory.`);
    }
  }
}

function names(devices: NativeDevice[]): string {
  return devices.map(({ name }) => name).join(", ");
}

/** The GPUs that llama.cpp takes: workers first, no GPU twice (seen by two backends), integrated ones if there are no others. */
function defaultGpus(all: NativeDevice[]): NativeDevice[] {
  const workers = all.filter(({ backend }) => backend.startsWith("RPC"));
  const local = all.filter(({ backend }) => !backend.startsWith("RPC"));
  const once = local.filter(
    ({ pciId }, i) => pciId === undefined || local.findIndex((other) => other.pciId === pciId) === i,
  );
  const gpus = once.filter(({ type }) => type === "gpu");
  const integrated = once.filter(({ type }) => type === "igpu");
  const first = integrated[0];
  return [...workers, ...(gpus.length > 0 ? gpus : integrated.filter(({ backend }) => backend === first?.backend))];
}

/** Of llama.cpp's backends, those that can split the rows of a matrix. */
const ROW_BACKENDS = ["CUDA", "ROCm", "MUSA", "SYCL"];

function checkRows({ splitMode }: NativeEngineOptions, devices: NativeDevice[]): void {
  const cannot = devices.find(({ backend }) => !ROW_BACKENDS.includes(backend));
  if (splitMode !== "row" || devices.length < 2 || !cannot) return;
  throw invalidOption("splitMode", splitMode, `"layer" or "tensor": ${cannot.backend} cannot split rows`);
}

/** Whether weights may stay in the file, to be read when they are used. */
function canMap({ loadMode, mlock }: NativeEngineOptions): boolean {
  return (loadMode === "auto" || loadMode === "mmap") && !mlock;
}

function mainDevice(name: string | undefined, devices: NativeDevice[]): number {
  if (name === undefined) return 0;
  const index = devices.findIndex((device) => device.name === name);
  if (index < 0)
    throw invalidOption(
      "mainDevice",
      name,
      devices.length === 0 ? "left out without a GPU" : `among ${names(devices)}`,
    );
  return index;
}

function tensorSplit({ tensorSplit: asked, limits }: PlacementWishes, devices: NativeDevice[]): number[] {
  if (devices.length < 2) return [];
  if (!asked) return devices.map(({ name, memoryFree }) => Math.min(memoryFree, limits[name] ?? Infinity) / 2 ** 20);
  if (asked.length === devices.length) return asked;
  throw invalidOption("tensorSplit", asked, `as many shares as there are devices: ${devices.length}`);
}

function toWishes(wishes: PlacementWishes, devices: NativeDevice[]): Wishes {
  const layers = wishes.gpuLayers ?? "auto";
  const context = wishes.contextLength;
  return {
    gpuLayers: devices.length === 0 ? 0 : layers === "max" ? 2 ** 31 - 1 : layers,
    contextLength:
      typeof context === "number" ? context : { atMost: context === "auto" ? 2 ** 31 - 1 : DEFAULT_CONTEXT },
    parallel: wishes.parallel ?? { atMost: DEFAULT_PARALLEL },
  };
}

/** As native/engine/speculator.cc makes the draft model's context. */
function draftOptions(options: NativeEngineOptions, kvCells: number): NativeEngineOptions {
  return {
    ...options,
    speculation: "none",
    gpuLayers: options.draftGpuLayers,
    overrides: [],
    kvUnified: true,
    deterministic: false,
    kvCells,
    keyType: "f16",
    valueType: "f16",
  };
}

function add(devices: Device[], more: Device): void {
  const known = devices.find(({ name }) => name === more.name);
  if (!known) {
    devices.push({ ...more, layers: 0 });
    return;
  }
  known.weights += more.weights;
  known.kvCache += more.kvCache;
  known.compute += more.compute;
}

/** Tokens of a cache up to which it is measured: the list of its cells alone takes 60 bytes each. */
const MEASURED_CELLS = 2 ** 21;

/** llama.cpp's own answer, and beyond that the straight line that it follows. */
async function measureAnyLength(planner: Planner, options: NativeEngineOptions) {
  const pools = options.kvUnified && !options.deterministic ? 1 : options.parallel;
  const cells = options.kvCells || options.contextLength * pools;
  if (cells <= MEASURED_CELLS) return planner.measure(options);
  const at = (share: number) =>
    planner.measure({
      ...options,
      contextLength: Math.floor((MEASURED_CELLS * share) / pools),
      kvCells: Math.floor((MEASURED_CELLS * share) / pools) * pools,
    });
  const [half, whole] = await Promise.all([at(0.5), at(1)]);
  const extend = (small: number, large: number) =>
    small + ((large - small) * (cells - half.kvCells)) / (whole.kvCells - half.kvCells);
  return {
    ...whole,
    contextLength: options.contextLength,
    kvCells: cells,
    devices: whole.devices.map((device) => {
      const small = half.devices.find(({ name }) => name === device.name) ?? device;
      return {
        ...device,
        kvCache: extend(small.kvCache, device.kvCache),
        compute: extend(small.compute, device.compute),
      };
    }),
  };
}

function toPlan(
  found: Fit,
  options: NativeEngineOptions,
  wishes: PlacementWishes,
  contextLength: number,
  notes: string[],
): Plan {
  const { choice, demand } = found;
  const layers = demand.layers + 1;
  const gpuLayers = options.devices.length === 0 ? 0 : Math.min(choice.gpuLayers, layers);
  return {
    fits: found.fits,
    contextLength,
    gpuLayers,
    layers,
    parallel: choice.parallel,
    kvCache: { layout: options.kvUnified ? "unified" : "split", capacity: demand.kvCells },
    devices: demand.devices.map((device) => ({ ...device, reserve: reserveOf(device, wishes.reserves) })),
    reasons: {
      devices: "",
      gpuLayers: whyLayers(wishes, gpuLayers, layers, options.devices),
      contextLength: whyContext(wishes, contextLength, demand, options),
      parallel:
        wishes.parallel !== undefined
          ? "as asked"
          : choice.parallel === DEFAULT_PARALLEL
            ? "the default"
            : "as many as fit",
    },
    notes,
  };
}

function whyDevices(wishes: PlacementWishes, devices: NativeDevice[]): string {
  if (wishes.devices) return "as asked";
  if (wishes.gpuLayers === 0) return "none is asked for: gpuLayers is 0";
  const workers = devices.filter(({ backend }) => backend === "RPC").length;
  if (workers > 0) return devices.length > workers ? "those of the workers, and all GPUs" : "those of the workers";
  return devices.length === 0 ? "there is no GPU" : "all GPUs";
}

function whyLayers(wishes: PlacementWishes, gpuLayers: number, layers: number, devices: string[]): string {
  if (devices.length === 0) return "there is no GPU in use";
  if (typeof wishes.gpuLayers === "number" || wishes.gpuLayers === "max") return "as asked";
  return gpuLayers === layers ? "all fit" : `no more fit ${devices.join(", ")}`;
}

function whyContext(
  wishes: PlacementWishes,
  contextLength: number,
  demand: Demand,
  options: NativeEngineOptions,
): string {
  if (typeof wishes.contextLength === "number") return "as asked";
  if (contextLength === demand.trainedContextLength) return "what the model was trained for";
  if (options.kvCells !== 0) return "what kvCache.capacity holds";
  return contextLength === DEFAULT_CONTEXT && wishes.contextLength === undefined
    ? `the default; the model was trained for ${demand.trainedContextLength}`
    : `no more fits; the model was trained for ${demand.trainedContextLength}`;
}

/** The devices of a plan as text: `"CUDA0 needs 12.1 GiB of 10.2 GiB free"`. */
export function shortfalls(devices: Omit<DevicePlan, "layers">[], withReserve: boolean): string[] {
  return devices
    .filter((device) => needOf(device, withReserve) > device.free)
    .map(
      (device) =>
        `${device.name} needs ${formatBytes(needOf(device, withReserve))} and has ${formatBytes(device.free)} free`,
    );
}

function needOf(device: Omit<DevicePlan, "layers">, withReserve: boolean): number {
  return device.weights + device.kvCache + device.compute + (withReserve ? device.reserve : 0);
}
