// Decides where a model goes, before a byte of its weights is read.

import { isGpuLost, whyNoGpu } from "../backends.js";
import { DEFAULT_CONTEXT, DEFAULT_PARALLEL, type CheckedLoad, type PlacementWishes } from "../check-load.js";
import { withAvailableMemory } from "../devices.js";
import { ColdstartError } from "../errors.js";
import type { NativeDevice, NativeDeviceMemory, NativeEngineOptions } from "../native.js";
import { invalidOption } from "../options.js";
import { fit, reserveOf, type Choice, type Demand, type DeviceDemand, type Fit, type Wishes } from "./fit.js";
import { checkOverrides, checkRows, defaultGpus, mainDevice, names, tensorSplit } from "./gpus.js";
import { add, contextOfCapacity, draftOptions, measureAnyLength } from "./measure.js";
import { toDevicePlan, type DevicePlan, type Plan } from "./plan.js";
import type { Planning, Planner } from "./planning.js";
import { whyContext, whyDevices, whyLayers } from "./reasons.js";

const CPU_PREFILL_BUDGET = 128;

/** A plan, and the engine's options that carry it out. */
export interface Placed {
  native: NativeEngineOptions;
  plan: Plan;
  /** Why it cannot be carried out, however much memory is free. */
  refused?: string | undefined;
}

/** Decides on loading the model at `source`, or the one with these headers. */
export class Placer {
  readonly #checked: CheckedLoad;
  readonly #planning: Planning;
  readonly #planner: Planner;
  readonly #draft: Planner | undefined;
  readonly #extra: (demand: Demand) => void;

  /** @param extra adds to each demand what else will be there */
  constructor(
    source: string | Uint8Array[],
    checked: CheckedLoad,
    planning: Planning,
    extra: (demand: Demand) => void = () => undefined,
  ) {
    this.#extra = extra;
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
  async place(): Promise<Placed> {
    const { wishes, notes: given } = this.#checked;
    const notes = [...given];
    const gpus = wishes.gpuLayers === 0 ? [] : await this.#chooseGpus(notes);
    checkRows(this.#checked.native, gpus);
    checkOverrides(this.#checked.native, wishes, gpus);
    mainDevice(wishes.mainDevice, gpus); // may throw
    const complain = ({ found, placed }: Attempt): Placed => {
      this.#complain(found, placed.plan);
      return placed;
    };
    const attempt = await this.#placeOn(gpus, whyDevices(wishes, gpus), notes);
    const none = attempt.placed.plan.gpuLayers === 0 && typeof wishes.gpuLayers !== "number";
    if (gpus.length === 0 || !none) return complain(attempt);
    // A GPU without a layer would still be used for large batches, and take memory for that.
    this.#fallBack(notes, "OUT_OF_MEMORY", `No layer fits ${names(gpus)}: all are on the CPU.`);
    return complain(await this.#placeOn([], `no layer fits ${names(gpus)}`, notes));
  }

  async #placeOn(devices: NativeDevice[], whyDevices: string, notes: string[]): Promise<Attempt> {
    const { wishes } = this.#checked;
    const options: NativeEngineOptions = {
      ...this.#checked.native,
      overrides: this.#checked.native.overrides.filter(
        ([, device]) => device === "CPU" || devices.some(({ name }) => name === device),
      ),
      devices: devices.map(({ name }) => name),
      splitMode: devices.length === 0 ? "none" : this.#checked.native.splitMode,
      mainDevice: devices.length === 0 ? 0 : mainDevice(wishes.mainDevice, devices),
      tensorSplit: tensorSplit(wishes, devices),
    };
    const measure = (choice: Choice) => this.#measure({ ...options, ...choice });
    const found = await fit(measure, toWishes(wishes, options, devices), wishes.reserves, canMap(options));
    // What does not fit into memory has to stay in the file.
    if (found.paging && options.loadMode === "auto") options.loadMode = "mmap";
    const { contextLength } = found.demand;
    const plan = toPlan(found, options, wishes, contextLength, notes);
    plan.reasons.devices = whyDevices;
    const native = { ...options, ...found.choice, contextLength };
    // A CPU computes a few tokens at the price of each, a GPU many at the price of one.
    if (native.prefillBudget === 0)
      native.prefillBudget = plan.gpuLayers < plan.layers ? CPU_PREFILL_BUDGET : options.batchSize;
    return { found, placed: { native, plan, refused: found.demand.refused } };
  }

  /** What an engine with these options would take. */
  async measure(options: NativeEngineOptions): Promise<{ demand: Demand; devices: DevicePlan[] }> {
    const demand = await this.#measure(options);
    return { demand, devices: planDevices(demand, this.#checked.wishes) };
  }

  async #measure(options: NativeEngineOptions): Promise<Demand> {
    const demand = await measureAnyLength(this.#planner, options);
    const devices = demand.devices.map((memory) => this.#toDevice(memory));
    if (this.#draft) {
      const draft = await measureAnyLength(this.#draft, draftOptions(options, demand.kvCells));
      for (const memory of draft.devices) add(devices, this.#toDevice(memory));
      if (draft.refused !== undefined) demand.refused ??= draft.refused;
    }
    const whole = { ...demand, devices };
    this.#extra(whole);
    return whole;
  }

  #toDevice(memory: NativeDeviceMemory): DeviceDemand {
    const { memoryTotal: total, memoryFree, ...rest } = withAvailableMemory(memory);
    const free = Math.min(memoryFree, this.#checked.wishes.limits[memory.name] ?? Infinity);
    return { ...rest, total, free, beyond: memoryFree - free };
  }

  async #chooseGpus(notes: string[]): Promise<NativeDevice[]> {
    const { wishes } = this.#checked;
    const backends = await this.#planning.backends();
    const devices = await this.#planning.devices();
    const absent = Object.keys(wishes.limits).filter((limited) => !devices.some(({ name }) => name === limited));
    if (absent.length > 0) notes.push(`memory.limits names ${absent.join(", ")}, and there is no such device.`);
    const all = devices.filter(({ type }) => type === "gpu" || type === "igpu");
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
      if (asked || isGpuLost(backends)) {
        this.#fallBack(
          notes,
          "BACKEND_UNAVAILABLE",
          `${asked ? `gpuLayers is ${wishes.gpuLayers}, and no GPU was found` : "No GPU is used"}: ${why}.`,
          " All layers are on the CPU.",
        );
      }
    }
    return chosen;
  }

  /** A note, or with `strict` an error. */
  #fallBack(notes: string[], code: "BACKEND_UNAVAILABLE" | "OUT_OF_MEMORY", what: string, consequence = ""): void {
    if (this.#checked.wishes.strict) {
      throw new ColdstartError(code, what, {
        remedy: "Correct it, or load without strict to go on all the same.",
        details: { strict: true },
      });
    }
    notes.push(what + consequence);
  }

  #complain({ paging, demand }: Fit, plan: Plan): void {
    const { wishes } = this.#checked;
    const { notes } = plan;
    if (demand.refused !== undefined) notes.push(demand.refused);
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

function planDevices({ devices }: Demand, { reserves }: PlacementWishes): DevicePlan[] {
  return devices.map((device) => toDevicePlan(device, reserveOf(device, reserves)));
}

interface Attempt {
  found: Fit;
  placed: Placed;
}

/** Whether weights may stay in the file, to be read when they are used. */
function canMap({ loadMode, mlock }: NativeEngineOptions): boolean {
  return (loadMode === "auto" || loadMode === "mmap") && !mlock;
}

function toWishes(wishes: PlacementWishes, options: NativeEngineOptions, devices: NativeDevice[]): Wishes {
  const layers = wishes.gpuLayers ?? "auto";
  const context = wishes.contextLength;
  const most = context === "auto" ? 2 ** 31 - 1 : DEFAULT_CONTEXT;
  return {
    gpuLayers: devices.length === 0 ? 0 : layers === "max" ? 2 ** 31 - 1 : layers,
    contextLength: typeof context === "number" ? context : { atMost: Math.min(most, contextOfCapacity(options)) },
    parallel: wishes.parallel ?? { atMost: DEFAULT_PARALLEL },
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
    devices: planDevices(demand, wishes),
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
