// One native engine and the routing of its events to who waits for them.

import { ColdstartError } from "./errors.js";
import {
  native,
  type NativeActivationSquares,
  type NativeAdapter,
  type NativeCalibration,
  type NativeChunk,
  type NativeEmbedding,
  type NativeEmbeddings,
  type NativeEngine,
  type NativeEngineOptions,
  type NativeEvent,
  type NativeFinished,
  type NativeLoaded,
  type NativeMetrics,
  type NativeRequest,
  type NativeScored,
  type NativeStatus,
} from "./native.js";

/** Gets the events of one request. Exactly one of those from `finished` on is called, last. */
export interface RequestListener {
  chunk?(chunk: NativeChunk): void;
  snapshot?(state: Uint8Array): void;
  scored?(scored: NativeScored): void;
  requestProgress?(fraction: number): void;
  finished?(finished: NativeFinished): void;
  calibrated?(matrices: NativeActivationSquares[] | undefined): void;
  embedded?(embeddings: NativeEmbeddings | undefined): void;
  adapterLoaded?(adapter: NativeAdapter & { id: number }): void;
  adapterUnloaded?(): void;
  failed(error: ColdstartError): void;
}

/** Engines with something under way. The addon holds them weakly, so that a forgotten model can be collected. */
const busy = new Set<Engine>();

/** Where an engine is: in this process, or in one of its own (isolation/remote-engine.ts). */
export type StartEngine = (options: NativeEngineOptions, onEvents: (events: NativeEvent[]) => void) => NativeEngine;

const startHere: StartEngine = (options, onEvents) => new (native().Engine)(options, onEvents);

export class Engine {
  /** Resolves when the model is loaded. */
  readonly loaded: Promise<NativeLoaded>;

  readonly #native: NativeEngine;
  readonly #listeners = new Map<number, RequestListener>();
  /** The adapters that requests use. */
  readonly #uses = new Map<number, readonly number[]>();
  /** What is done when no request uses an adapter any more. */
  readonly #whenUnused = new Map<number, () => void>();
  readonly #onProgress: (fraction: number) => void;
  readonly #settleLoaded: PromiseWithResolvers<NativeLoaded>;
  readonly #closed: PromiseWithResolvers<undefined>;
  #isLoading = true;
  #isStopping = false;
  #isClosed = false;
  /** Why requests are refused, once they are. */
  #ended: ColdstartError | undefined;
  #nextId: number;

  constructor(options: NativeEngineOptions, onProgress: (fraction: number) => void, start: StartEngine = startHere) {
    this.#onProgress = onProgress;
    this.#nextId = 1 + options.adapters.length;
    this.#settleLoaded = withResolvers<NativeLoaded>();
    this.#closed = withResolvers<undefined>();
    this.loaded = this.#settleLoaded.promise;
    const weak = new WeakRef(this);
    this.#native = start(options, (events) => {
      const engine = weak.deref();
      if (engine) engine.#receive(events);
    });
    this.#keepWhileBusy();
  }

  get ended(): ColdstartError | undefined {
    return this.#ended;
  }

  /** Starts a request; the function returned cancels it. Throws `DISPOSED` when the engine has ended. */
  submit(request: Omit<NativeRequest, "id">, listener: RequestListener): () => void {
    return this.#start((id) => this.#native.submit({ ...request, id }), listener, request.adapters);
  }

  /** Likewise. */
  calibrate(request: Omit<NativeCalibration, "id">, listener: RequestListener): () => void {
    return this.#start((id) => this.#native.calibrate({ ...request, id }), listener);
  }

  /** Likewise. */
  embed(request: Omit<NativeEmbedding, "id">, listener: RequestListener): () => void {
    return this.#start((id) => this.#native.embed({ ...request, id }), listener, request.adapters);
  }

  async loadAdapter(path: string): Promise<NativeAdapter & { id: number }> {
    const settled = withResolvers<NativeAdapter & { id: number }>();
    this.#start((id) => this.#native.loadAdapter(id, path), {
      adapterLoaded: (adapter) => settled.resolve(adapter),
      failed: (error) => settled.reject(error),
    });
    return settled.promise;
  }

  /** Resolves when it is freed: no sooner than the requests end that use it. */
  async unloadAdapter(adapter: number): Promise<undefined> {
    if (this.#isUsed(adapter)) await new Promise<void>((resolve) => this.#whenUnused.set(adapter, resolve));
    if (this.#ended) return this.#closed.promise;
    const settled = withResolvers<undefined>();
    this.#start((id) => this.#native.unloadAdapter(id, adapter), {
      adapterUnloaded: () => settled.resolve(undefined),
      failed: () => settled.resolve(undefined), // With all else.
    });
    return settled.promise;
  }

  #isUsed(adapter: number): boolean {
    return [...this.#uses.values()].some((adapters) => adapters.includes(adapter));
  }

  #start(
    start: (id: number) => void,
    listener: RequestListener,
    adapters: readonly (readonly [id: number, scale: number])[] = [],
  ): () => void {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    start(id);
    this.#listeners.set(id, listener);
    if (adapters.length > 0)
      this.#uses.set(
        id,
        adapters.map(([adapter]) => adapter),
      );
    this.#keepWhileBusy();
    return () => {
      if (this.#listeners.has(id)) this.#native.cancel(id);
    };
  }

  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Promise<number[]> {
    if (this.#ended) return Promise.reject(this.#ended);
    return this.#native.tokenize(text, addSpecial, parseSpecial);
  }

  detokenize(tokens: Int32Array, renderSpecial: boolean): Promise<string> {
    if (this.#ended) return Promise.reject(this.#ended);
    return this.#native.detokenize(tokens, renderSpecial);
  }

  /** Makes a saved state available to requests that start with `tokens`. */
  restore(tokens: Int32Array, state: Uint8Array, adapters: [id: number, scale: number][]): void {
    if (this.#ended) throw this.#ended;
    this.#native.restore(tokens, state, adapters);
  }

  status(): NativeStatus {
    return this.#native.status();
  }

  /** Also of one that has ended, in this process. */
  async metrics(): Promise<NativeMetrics> {
    return this.#native.metrics();
  }

  /** Gives up loading and generating; resolves when everything is freed. */
  close(): Promise<undefined> {
    if (!this.#isStopping && !this.#isClosed) {
      this.#isStopping = true;
      this.#ended ??= new ColdstartError("DISPOSED", "The model was disposed.", { remedy: "Load it again." });
      this.#native.stop();
      this.#keepWhileBusy();
    }
    return this.#closed.promise;
  }

  #receive(events: NativeEvent[]): void {
    for (const event of events) {
      switch (event.type) {
        case "progress":
          this.#onProgress(event.fraction);
          break;
        case "loaded":
          this.#isLoading = false;
          this.#settleLoaded.resolve(event);
          break;
        case "loadFailed":
          this.#settleLoaded.reject(event.error);
          break;
        case "chunk":
          this.#listeners.get(event.id)?.chunk?.(event);
          break;
        case "snapshot":
          this.#listeners.get(event.id)?.snapshot?.(event.state);
          break;
        case "scored":
          this.#listeners.get(event.id)?.scored?.(event);
          break;
        case "finished":
          this.#take(event.id)?.finished?.(event);
          break;
        case "requestProgress":
          this.#listeners.get(event.id)?.requestProgress?.(event.fraction);
          break;
        case "calibrated":
          this.#take(event.id)?.calibrated?.(event.matrices);
          break;
        case "embedded":
          this.#take(event.id)?.embedded?.(event.embeddings);
          break;
        case "adapterLoaded":
          this.#take(event.id)?.adapterLoaded?.(event);
          break;
        case "adapterUnloaded":
          this.#take(event.id)?.adapterUnloaded?.();
          break;
        case "failed":
          this.#take(event.id)?.failed(event.error);
          break;
        case "trouble":
          process.emitWarning(event.error.message, { type: "ColdstartWarning", code: event.error.code });
          break;
        case "closed":
          this.#end(event.error);
          break;
      }
    }
    this.#keepWhileBusy();
  }

  #take(id: number): RequestListener | undefined {
    const listener = this.#listeners.get(id);
    this.#listeners.delete(id);
    this.#letGo(id);
    return listener;
  }

  #letGo(id: number): void {
    const adapters = this.#uses.get(id) ?? [];
    this.#uses.delete(id);
    for (const adapter of adapters) {
      const unload = this.#whenUnused.get(adapter);
      if (unload === undefined || this.#isUsed(adapter)) continue;
      this.#whenUnused.delete(adapter);
      unload();
    }
  }

  #end(error: ColdstartError): void {
    this.#ended ??= error;
    this.#isLoading = false;
    this.#isStopping = false;
    this.#isClosed = true;
    for (const listener of this.#listeners.values()) listener.failed(error);
    this.#listeners.clear();
    this.#uses.clear();
    for (const unload of this.#whenUnused.values()) unload();
    this.#whenUnused.clear();
    // Stopped before it was loaded; nothing happens when it was.
    this.#settleLoaded.reject(error);
    this.#closed.resolve(undefined);
  }

  #keepWhileBusy(): void {
    if (this.#isLoading || this.#isStopping || this.#listeners.size > 0) busy.add(this);
    else busy.delete(this);
  }
}

interface PromiseWithResolvers<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** Promise.withResolvers of ES2024, which Node.js 20 lacks. A rejection that nobody awaits is not an unhandled one. */
export function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
