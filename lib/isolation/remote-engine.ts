// An engine in a process of its own, which may end without taking the application with it.

import { ColdstartError } from "../errors.js";
import {
  IDLE,
  endsRequest,
  type NativeCalibration,
  type NativeEmbedding,
  type NativeEngine,
  type NativeEngineOptions,
  type NativeEvent,
  type NativeMetrics,
  type NativeRequest,
  type NativeStatus,
} from "../native.js";
import type { Worker } from "../workers/probe.js";
import { watchWorkers } from "../workers/watch.js";
import { Child } from "./child.js";
import { unpackEvent, type FromChild, type ToChild } from "./messages.js";

/** How long an engine may take to stop before its process is killed, in milliseconds. */
const GRACE = 5000;

/** Stops the processes of engines that were forgotten without `dispose()`. */
const forgotten = new FinalizationRegistry<EngineProcess>((process) => process.stop());

/** Looks like the addon's engine, and is one in another process. */
export class RemoteEngine implements NativeEngine {
  readonly #process: EngineProcess;

  /** @param backends paths of the plugins to load there */
  constructor(
    options: NativeEngineOptions,
    backends: string[],
    workers: Worker[],
    onEvents: (events: NativeEvent[]) => void,
  ) {
    this.#process = new EngineProcess(options, backends, workers, onEvents);
    forgotten.register(this, this.#process);
  }

  get pid(): number | undefined {
    return this.#process.child.pid;
  }

  submit(request: NativeRequest): void {
    this.#process.submit(request);
  }

  calibrate(request: NativeCalibration): void {
    this.#process.calibrate(request);
  }

  embed(request: NativeEmbedding): void {
    this.#process.begin(request.id, { type: "embed", request });
  }

  cancel(id: number): void {
    this.#process.child.send({ type: "cancel", id });
  }

  loadAdapter(id: number, path: string): void {
    this.#process.begin(id, { type: "loadAdapter", id, path });
  }

  unloadAdapter(id: number, adapter: number): void {
    this.#process.begin(id, { type: "unloadAdapter", id, adapter });
  }

  restore(tokens: Int32Array, state: Uint8Array, adapters: [id: number, scale: number][]): void {
    this.#process.checkTokens(tokens);
    this.#process.child.send({ type: "restore", tokens, state, adapters });
  }

  /** As it was told last: with every batch of events, and from time to time while there are none. */
  status(): NativeStatus {
    return { ...this.#process.status };
  }

  metrics(): Promise<NativeMetrics> {
    return this.#process.child.call((call) => ({ type: "metrics", call }));
  }

  stop(): void {
    this.#process.stop();
  }

  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Promise<number[]> {
    return this.#process.child.call((call) => ({ type: "tokenize", call, text, addSpecial, parseSpecial }));
  }

  detokenize(tokens: Int32Array, renderSpecial: boolean): Promise<string> {
    return this.#process.child.call((call) => ({ type: "detokenize", call, tokens, renderSpecial }));
  }
}

/** The process and what is under way in it. Knows nothing of its RemoteEngine, so that that one can be collected. */
class EngineProcess {
  readonly child: Child;
  status: NativeStatus = IDLE;

  readonly #onEvents: (events: NativeEvent[]) => void;
  readonly #endWatch: () => void;
  readonly #requests = new Set<number>();
  #vocabularySize = Infinity;
  #isLoading = true;
  #isStopping = false;
  /** Whether it said something since the last look at its workers. */
  #wasHeard = false;
  /** Its last event, held back until the process is gone and all is freed. */
  #closed: NativeEvent | undefined;

  constructor(
    options: NativeEngineOptions,
    backends: string[],
    workers: Worker[],
    onEvents: (events: NativeEvent[]) => void,
  ) {
    this.#onEvents = onEvents;
    this.child = new Child(workers, {
      receive: (message) => this.#receive(message),
      end: (error) => this.#end(error),
    });
    const endpoints = workers.map(({ endpoint }) => endpoint);
    // When it fails, so does the start.
    void this.child.call((call) => ({ type: "open", call, backends, workers: endpoints }));
    this.child.send({ type: "start", options });
    this.#endWatch = watchWorkers(
      workers,
      () => this.#isWaiting(),
      (lost) => this.child.killForWorkers(lost),
    );
  }

  submit(request: NativeRequest): void {
    if (typeof request.prompt !== "string") this.checkTokens(request.prompt);
    this.checkTokens(request.history);
    this.checkTokens(request.logitBias.map(([token]) => token));
    this.begin(request.id, { type: "submit", request });
  }

  calibrate(request: NativeCalibration): void {
    this.checkTokens(request.tokens);
    this.begin(request.id, { type: "calibrate", request });
  }

  /** Sends what starts a request. */
  begin(id: number, message: ToChild): void {
    this.#requests.add(id);
    this.child.send(message);
    this.#updateBusy();
  }

  stop(): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.child.expectEnd();
    this.child.send({ type: "stop" });
    this.child.killAfter(GRACE);
    this.#updateBusy();
  }

  /** As native/engine/tokenizer.cc does, which would be too late to throw. */
  checkTokens(tokens: Int32Array | number[]): void {
    const vocabularySize = this.#vocabularySize;
    for (const token of tokens) {
      if (token >= 0 && token < vocabularySize) continue;
      throw new ColdstartError(
        "INVALID_OPTION",
        `Token ${token} is not of this model's vocabulary of ${vocabularySize}.`,
        { remedy: "Use token ids that this model's tokenize() returned.", details: { token, vocabularySize } },
      );
    }
  }

  #receive(message: FromChild): void {
    if (message.type === "status") this.status = message.status;
    if (message.type !== "events") return;
    this.#wasHeard = true;
    this.status = message.status;
    const events = message.events.map(unpackEvent);
    if (events.at(-1)?.type === "closed") {
      this.#closed = events.pop();
      this.child.killAfter(GRACE);
    }
    for (const event of events) {
      if (endsRequest(event)) this.#requests.delete(event.id);
      if (event.type === "loaded") {
        this.#isLoading = false;
        this.#vocabularySize = event.vocabularySize;
      }
    }
    this.#onEvents(events);
    this.#updateBusy();
  }

  #end(error: ColdstartError): void {
    this.#endWatch();
    this.#requests.clear();
    this.#onEvents([this.#closed ?? { type: "closed", error }]);
  }

  /** Since the last time that this was asked. */
  #isWaiting(): boolean {
    const isWaiting = !this.#wasHeard && (this.#isLoading || this.#requests.size > 0);
    this.#wasHeard = false;
    return isWaiting;
  }

  /** As with an engine of this process: only what is under way keeps it alive, not a model that lies idle. */
  #updateBusy(): void {
    this.child.setBusy(this.#isLoading || this.#isStopping || this.#requests.size > 0);
  }
}
