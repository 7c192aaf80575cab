// What an application and a process that does native work for it say to each other.

import { ColdstartError, type ErrorCode } from "../errors.js";
import type {
  NativeCalibration,
  NativeEmbedding,
  NativeEngineOptions,
  NativeEvent,
  NativeRequest,
  NativeStatus,
} from "../native.js";

export type ToChild =
  /** First of all: the plugins and workers whose devices are used. */
  | { type: "open"; call: number; backends: string[]; workers: string[] }
  | { type: "devices"; call: number }
  | { type: "planner"; planner: number; source: string | Uint8Array[] }
  | { type: "measure"; call: number; planner: number; options: NativeEngineOptions }
  | { type: "start"; options: NativeEngineOptions }
  | { type: "submit"; request: NativeRequest }
  | { type: "calibrate"; request: NativeCalibration }
  | { type: "embed"; request: NativeEmbedding }
  | { type: "cancel"; id: number }
  | { type: "loadAdapter"; id: number; path: string }
  | { type: "unloadAdapter"; id: number; adapter: number }
  | { type: "restore"; tokens: Int32Array; state: Uint8Array; adapters: [id: number, scale: number][] }
  | { type: "tokenize"; call: number; text: string; addSpecial: boolean; parseSpecial: boolean }
  | { type: "detokenize"; call: number; tokens: Int32Array; renderSpecial: boolean }
  | { type: "metrics"; call: number }
  | { type: "stop" };

export type FromChild =
  /** All events since the last message, and how things stood then. */
  | { type: "events"; events: PackedEvent[]; status: NativeStatus }
  | { type: "status"; status: NativeStatus }
  | { type: "answer"; call: number; value: unknown }
  | { type: "refusal"; call: number; error: PackedError };

/** A ColdstartError: of an Error, the serialization of child_process keeps nothing but its message. */
export interface PackedError {
  code: ErrorCode;
  what: string;
  remedy: string;
  details: Record<string, unknown>;
}

export type PackedEvent = NativeEvent extends infer Event
  ? Event extends { error: ColdstartError }
    ? Omit<Event, "error"> & { error: PackedError }
    : Event
  : never;

export function packError(error: unknown): PackedError {
  if (!(error instanceof ColdstartError)) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { code: "INTERNAL", what, remedy: "This is likely a defect of coldstart; please report it.", details: {} };
  }
  const { code, message, remedy, details } = error;
  const what = remedy === "" ? message : message.slice(0, -remedy.length - 1);
  return { code, what, remedy, details: { ...details } };
}

export function unpackError({ code, what, remedy, details }: PackedError): ColdstartError {
  return new ColdstartError(code, what, { remedy, details });
}

export function packEvent(event: NativeEvent): PackedEvent {
  return "error" in event ? { ...event, error: packError(event.error) } : event;
}

export function unpackEvent(event: PackedEvent): NativeEvent {
  return "error" in event ? { ...event, error: unpackError(event.error) } : event;
}

/**
 * Gathers events until they can be sent. Chunks of one request are merged into one and of loading only the last progress
 * is kept, so that what waits for a busy application is bounded by the text itself.
 */
export class EventBuffer {
  #events: NativeEvent[] = [];
  readonly #chunks = new Map<number, Extract<NativeEvent, { type: "chunk" }>>();

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  add(events: NativeEvent[]): void {
    for (const event of events) {
      if (event.type === "chunk") this.#addChunk(event);
      else if (event.type === "progress") this.#addProgress(event);
      else this.#events.push(event);
    }
  }

  take(): NativeEvent[] {
    const events = this.#events;
    this.#events = [];
    this.#chunks.clear();
    return events;
  }

  #addProgress(event: NativeEvent): void {
    if (this.#events.at(-1)?.type === "progress") this.#events.pop();
    this.#events.push(event);
  }

  #addChunk(event: Extract<NativeEvent, { type: "chunk" }>): void {
    const before = this.#chunks.get(event.id);
    if (before === undefined) {
      this.#chunks.set(event.id, event);
      this.#events.push(event);
      return;
    }
    before.text += event.text;
    for (const token of event.tokens) before.tokens.push(token);
    if (event.logprobs) (before.logprobs ??= []).push(...event.logprobs);
  }
}
