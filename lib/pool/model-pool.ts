import { EventEmitter } from "node:events";
import { withResolvers } from "../engine.js";
import { ColdstartError } from "../errors.js";
import { loadModel } from "../load-model.js";
import type { LoadOptions } from "../load-options.js";
import type { ModelMetrics } from "../metrics/model-metrics.js";
import type { Model, ModelStatus } from "../model.js";
import { invalidOption, OptionReader } from "../options.js";
import { asPlanned, heldBy, planBeside, type Held } from "./plan-beside.js";
import { makeRoom, type Bytes, type Resident } from "./policy.js";

/** A model of a pool: where it is and how it is loaded. */
export interface PooledModel extends Omit<LoadOptions, "signal" | "onProgress"> {
  path: string | URL;
  /** As in `PoolOptions`, of this model. */
  keepAlive?: number;
}

export interface PoolOptions {
  /** By the names that they are asked for by. */
  models?: Readonly<Record<string, string | URL | PooledModel>>;
  /** Milliseconds that a model stays loaded when nobody uses it; `Infinity`: until its memory is needed. Default 300000, 5 minutes. */
  keepAlive?: number;
  /** Most models that are loaded at the same time. Default: as many as fit. */
  maxLoaded?: number;
  memory?: {
    /** Most bytes of a device, by name, that all models together take. Default: what is free of it. */
    limits?: Readonly<Record<string, number>>;
  };
}

/** Why a model is unloaded. */
export type UnloadReason = "idle" | "evicted" | "asked" | "crashed" | "disposed";

/** What a pool tells as it happens: `pool.on("load", …)`. */
export interface PoolEvents {
  load: [event: { name: string; milliseconds: number }];
  unload: [event: { name: string; reason: UnloadReason }];
}

/** How a model of a pool is. */
export interface PoolEntry {
  name: string;
  state: "unloaded" | "waiting" | "loading" | "loaded" | "unloading";
  /** Leases, and calls of `acquire()` that wait for it. */
  users: number;
  /** Bytes that it takes, by device; empty when it is not loaded. */
  bytes: Readonly<Record<string, number>>;
  /** When it is unloaded if nobody uses it, a time as of `Date.now()`. */
  expires: number | undefined;
}

/** A model that is used: it stays loaded until the lease is released. */
export interface Lease extends AsyncDisposable, Disposable {
  readonly model: Model;
  /** May be called again. */
  release(): void;
}

interface Waiter {
  resolve: (lease: Lease) => void;
  reject: (error: unknown) => void;
}

interface Entry {
  name: string;
  path: string | URL;
  options: LoadOptions;
  keepAlive: number;
  state: PoolEntry["state"];
  model: Model | undefined;
  held: Held | undefined;
  leases: number;
  lastUsed: number;
  waiters: Set<Waiter>;
  abort: AbortController | undefined;
  timer: NodeJS.Timeout | undefined;
  expires: number | undefined;
  /** It goes when nobody uses it. */
  isLeaving: boolean;
  /** It is no model of the pool any more. */
  isRemoved: boolean;
  /** Devices that it waits for. */
  lacks: string[];
}

/** Counts as a device, of which each model takes 1. */
const PLACES = "models";
const DEFAULT_KEEP_ALIVE = 300_000;
const NOTHING: Held = { bytes: {}, pages: {} };

/**
 * Several models that share this machine's memory: each is loaded when it is asked for, and those that were not used the longest
 * make room for it. What is loaded together never takes more than there is, by plan; a model in use stays.
 */
export class ModelPool extends EventEmitter<PoolEvents> implements AsyncDisposable {
  readonly #entries = new Map<string, Entry>();
  readonly #keepAlive: number;
  readonly #limits: Bytes;
  readonly #maxLoaded: number;
  /** Models that are to be loaded, in the order in which they were asked for; the first one is being worked on. */
  readonly #queue: Entry[] = [];
  #isWorking = false;
  #isDisposed = false;
  /** Wakes the one that waits for a model to be released. */
  #released = withResolvers<undefined>();

  /** @throws `INVALID_OPTION` */
  constructor(options: PoolOptions = {}) {
    super();
    const read = new OptionReader(options, ["models", "keepAlive", "maxLoaded", "memory"]);
    this.#keepAlive = checkKeepAlive(read, DEFAULT_KEEP_ALIVE);
    this.#maxLoaded = read.integer("maxLoaded", 1, 2 ** 31 - 1, undefined) ?? Infinity;
    this.#limits = checkLimits(read.nested("memory", ["limits"]).raw("limits"));
    const models = read.raw("models") ?? {};
    if (typeof models !== "object" || Array.isArray(models))
      throw invalidOption("models", models, "an object of models");
    for (const [name, model] of Object.entries(models)) this.add(name, model as PooledModel);
  }

  /** Adds a model, which is not loaded yet. @throws `INVALID_OPTION`, also for a name that there is already. */
  add(name: string, model: string | URL | PooledModel): void {
    if (typeof name !== "string" || name === "")
      throw invalidOption("name", name, "a string of at least one character");
    if (this.#entries.has(name)) throw invalidOption("name", name, "one that no model of the pool has");
    const isPath = typeof model === "string" || model instanceof URL;
    if (!isPath && (typeof model !== "object" || (model as unknown) === null))
      throw invalidOption(`models.${name}`, model, "a path, or an object with one");
    const { path, keepAlive, ...options } = isPath ? { path: model } : model;
    this.#entries.set(name, {
      name,
      path,
      options,
      keepAlive: checkKeepAlive(new OptionReader({ keepAlive }, ["keepAlive"], `models.${name}.`), this.#keepAlive),
      state: "unloaded",
      model: undefined,
      held: undefined,
      leases: 0,
      lastUsed: 0,
      waiters: new Set(),
      abort: undefined,
      timer: undefined,
      expires: undefined,
      isLeaving: false,
      isRemoved: false,
      lacks: [],
    });
  }

  /** What the models that are loaded have done, and do now. */
  async metrics(): Promise<{ name: string; metrics: ModelMetrics; status: ModelStatus }[]> {
    const loaded = [...this.#entries.values()].flatMap(({ name, model }) =>
      model === undefined || model.disposed ? [] : [{ name, model }],
    );
    return Promise.all(
      loaded.map(async ({ name, model }) => ({ name, metrics: await model.metrics(), status: model.status() })),
    );
  }

  /** Takes a model out of the pool; it is unloaded when nobody uses it. Resolves then. */
  async remove(name: string): Promise<void> {
    const entry = this.#find(name);
    entry.isRemoved = true;
    await this.#leave(entry);
    this.#entries.delete(name);
  }

  /**
   * The model of this name, loaded. It stays until the lease is released: `await using lease = await pool.acquire(name)`.
   * Calls for one model share its loading. While a model waits for memory that others use, calls for these wait behind it, so that
   * each has its turn.
   *
   * Rejects with `INVALID_OPTION` (no such model), `ABORTED`, `DISPOSED`, and as `loadModel()`; with `OUT_OF_MEMORY` for a model that
   * does not fit alone.
   */
  async acquire(name: string, options: { signal?: AbortSignal } = {}): Promise<Lease> {
    const signal = new OptionReader(options, ["signal"]).signal();
    const entry = this.#find(name);
    if (this.#isDisposed) throw disposed();
    if (signal?.aborted) throw aborted(signal);
    if (entry.model?.disposed) this.#forget(entry, "crashed");
    if (entry.model && entry.state === "loaded" && !entry.isLeaving && !this.#isWantedElsewhere(entry))
      return this.#lease(entry, entry.model);
    const settled = withResolvers<Lease>();
    const waiter: Waiter = { resolve: (lease) => settled.resolve(lease), reject: (error) => settled.reject(error) };
    entry.waiters.add(waiter);
    const leave = () => {
      if (!entry.waiters.delete(waiter)) return;
      settled.reject(aborted(signal));
      if (entry.waiters.size === 0) entry.abort?.abort();
      this.#wake();
    };
    signal?.addEventListener("abort", leave, { once: true });
    if (!this.#queue.includes(entry)) this.#queue.push(entry);
    void this.#work();
    return settled.promise.finally(() => signal?.removeEventListener("abort", leave));
  }

  /** Runs `body` with the model of this name, and releases it. Rejects as `acquire()`, and as `body` does. */
  async use<T>(
    name: string,
    body: (model: Model) => T | Promise<T>,
    options: { signal?: AbortSignal } = {},
  ): Promise<T> {
    const lease = await this.acquire(name, options);
    try {
      return await body(lease.model);
    } finally {
      lease.release();
    }
  }

  /** Unloads a model, when nobody uses it. Resolves then, and at once where it is not loaded. */
  async unload(name: string): Promise<void> {
    await this.#leave(this.#find(name));
  }

  /** All models, and how they are. */
  list(): PoolEntry[] {
    return [...this.#entries.values()].map(({ name, state, leases, waiters, held, expires }) => ({
      name,
      state,
      users: leases + waiters.size,
      bytes: { ...held?.bytes },
      expires,
    }));
  }

  /** Unloads everything, also what is in use. Calls that wait reject with `DISPOSED`. May be called again. */
  async dispose(): Promise<void> {
    this.#isDisposed = true;
    this.#queue.length = 0;
    this.#wake();
    await Promise.all(
      [...this.#entries.values()].map(async (entry) => {
        for (const { reject } of entry.waiters) reject(disposed());
        entry.waiters.clear();
        entry.abort?.abort();
        await this.#unload(entry, "disposed");
      }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #find(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry && !entry.isRemoved) return entry;
    const names = [...this.#entries.values()]
      .filter((one) => !one.isRemoved)
      .map((one) => one.name)
      .map((one) => JSON.stringify(one));
    throw invalidOption("name", name, names.length === 0 ? "added before" : `one of ${names.join(", ")}`);
  }

  async #leave(entry: Entry): Promise<void> {
    if (entry.model === undefined) return;
    entry.isLeaving = true;
    while (this.#isLeaving(entry) && entry.leases > 0) await this.#released.promise;
    if (this.#isLeaving(entry)) await this.#unload(entry, "asked");
  }

  /** Asked anew: it may have gone in the meantime, for another reason. */
  #isLeaving(entry: Entry): boolean {
    return entry.isLeaving && entry.model !== undefined;
  }

  /** Whether another model waits for what this one takes. */
  #isWantedElsewhere(entry: Entry): boolean {
    const lacks = this.#queue[0]?.lacks ?? [];
    return lacks.some((device) => device === PLACES || (entry.held?.bytes[device] ?? 0) > 0);
  }

  #lease(entry: Entry, model: Model): Lease {
    entry.leases++;
    this.#touch(entry);
    let isReleased = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      entry.leases--;
      this.#touch(entry);
      this.#wake();
    };
    const releaseLater = () => {
      release();
      return Promise.resolve();
    };
    return { model, release, [Symbol.dispose]: release, [Symbol.asyncDispose]: releaseLater };
  }

  /** Used now. When nobody uses it any more, its time runs. */
  #touch(entry: Entry): void {
    entry.lastUsed = performance.now();
    clearTimeout(entry.timer);
    entry.timer = undefined;
    entry.expires = undefined;
    if (entry.leases > 0 || entry.model === undefined || entry.keepAlive === Infinity) return;
    entry.expires = Date.now() + entry.keepAlive;
    const end = () => {
      if (entry.leases === 0 && entry.waiters.size === 0) void this.#unload(entry, "idle");
    };
    entry.timer = setTimeout(end, Math.min(entry.keepAlive, 2 ** 31 - 1));
    entry.timer.unref();
  }

  #wake(): void {
    this.#released.resolve(undefined);
    this.#released = withResolvers<undefined>();
  }

  /** Loads what is in the queue, one model after the other. */
  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (let entry = this.#queue[0]; entry !== undefined; entry = this.#queue[0]) {
      try {
        await this.#serve(entry);
      } catch (error) {
        if (entry.model === undefined) entry.state = "unloaded";
        for (const { reject } of entry.waiters) reject(error);
        entry.waiters.clear();
      }
      if (this.#queue[0] === entry) this.#queue.shift();
      // Who came when all others had left, and the loading was given up.
      if (entry.waiters.size > 0 && !this.#queue.includes(entry)) this.#queue.push(entry);
    }
    this.#isWorking = false;
  }

  /** Gives leases to all that wait for this model. */
  async #serve(entry: Entry): Promise<void> {
    while (this.#isLeaving(entry) && entry.leases > 0 && entry.waiters.size > 0) await this.#released.promise;
    if (this.#isLeaving(entry) && entry.leases === 0) await this.#unload(entry, "asked");
    if (entry.waiters.size === 0) return;
    if (entry.model?.disposed) this.#forget(entry, "crashed");
    const model = entry.model ?? (await this.#load(entry));
    if (model === undefined) return;
    for (const { resolve } of entry.waiters) resolve(this.#lease(entry, model));
    entry.waiters.clear();
    this.#touch(entry);
  }

  /** Undefined when nobody waits for it any more. */
  async #load(entry: Entry): Promise<Model | undefined> {
    const started = performance.now();
    entry.state = "waiting";
    const abort = new AbortController();
    entry.abort = abort;
    try {
      const options = await this.#makeRoomFor(entry, abort.signal);
      if (options === undefined) return undefined;
      entry.state = "loading";
      const model = await loadModel(entry.path, { ...options, signal: abort.signal });
      if (isAborted(abort.signal)) {
        await model.dispose();
        return undefined;
      }
      entry.model = model;
      entry.held = heldBy(model.placement);
      entry.state = "loaded";
      this.emit("load", { name: entry.name, milliseconds: performance.now() - started });
      return model;
    } catch (error) {
      if (abort.signal.aborted) return undefined;
      throw error;
    } finally {
      entry.abort = undefined;
      entry.lacks = [];
      if (entry.model === undefined) entry.state = "unloaded";
    }
  }

  /** Unloads what has to go; resolves to the options that load what was planned, or to nothing when nobody waits any more. */
  async #makeRoomFor(entry: Entry, signal: AbortSignal): Promise<LoadOptions | undefined> {
    while (!isAborted(signal)) {
      const loaded = [...this.#entries.values()].filter((one) => one.model !== undefined);
      const held = loaded.map((one) => one.held ?? NOTHING);
      const { plan, wanted, capacity } = await planBeside(entry.path, entry.options, held, this.#limits);
      if (isAborted(signal)) return undefined;
      const room = { ...capacity, [PLACES]: this.#maxLoaded };
      const decision = makeRoom({ ...wanted, [PLACES]: 1 }, room, loaded.map(toResident));
      if (decision !== "never" && "unload" in decision) {
        await this.#evict(decision.unload);
        return asPlanned(entry.options, plan);
      }
      // Weights beyond what is free can be read from the file again and again, but beside nothing else.
      if (decision === "never" && loaded.every(({ leases }) => leases === 0)) {
        await this.#evict(loaded.map(({ name }) => name));
        return entry.options;
      }
      entry.lacks = decision === "never" ? Object.keys(wanted) : decision.waitFor;
      await this.#released.promise;
      entry.lacks = [];
    }
    return undefined;
  }

  async #evict(names: readonly string[]): Promise<void> {
    const entries = names.map((name) => this.#entries.get(name)).filter((entry) => entry !== undefined);
    // All at once: from here on, none of them is given to anybody.
    await Promise.all(entries.map((entry) => this.#unload(entry, "evicted")));
  }

  async #unload(entry: Entry, reason: UnloadReason): Promise<void> {
    const { model } = entry;
    if (model === undefined) return;
    this.#forget(entry, reason, "unloading");
    await model.dispose();
    if (entry.state === "unloading") entry.state = "unloaded";
    this.#wake();
  }

  #forget(entry: Entry, reason: UnloadReason, state: PoolEntry["state"] = "unloaded"): void {
    clearTimeout(entry.timer);
    entry.model = undefined;
    entry.held = undefined;
    entry.expires = undefined;
    entry.isLeaving = false;
    entry.state = state;
    this.emit("unload", { name: entry.name, reason });
  }
}

/** Asked anew: it may have been in the meantime. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function toResident({ name, held, leases, lastUsed }: Entry): Resident {
  return { name, bytes: { ...held?.bytes, [PLACES]: 1 }, isBusy: leases > 0, lastUsed };
}

function checkKeepAlive(read: OptionReader, usual: number): number {
  return read.raw("keepAlive") === Infinity ? Infinity : read.number("keepAlive", { min: 0, max: 2 ** 53 }, usual);
}

function checkLimits(value: unknown): Bytes {
  const limits = value ?? {};
  const isLimits =
    typeof limits === "object" &&
    !Array.isArray(limits) &&
    Object.values(limits).every((bytes) => typeof bytes === "number" && bytes >= 0);
  if (!isLimits) throw invalidOption("memory.limits", value, "an object of bytes, by the names of devices");
  return limits as Bytes;
}

function disposed(): ColdstartError {
  return new ColdstartError("DISPOSED", "The pool was disposed.", { remedy: "Make another one." });
}

function aborted(signal: AbortSignal | undefined): ColdstartError {
  return new ColdstartError("ABORTED", "Waiting for the model was aborted.", {
    remedy: "Ask for it again when needed.",
    cause: signal?.reason,
  });
}
