// A process that does native work for an application: plans, or an engine whose calls and events are messages (messages.ts).

import {
  endsRequest,
  native,
  type NativeEngine,
  type NativeEngineOptions,
  type NativeEvent,
  type NativePlanner,
  IDLE,
  type NativeStatus,
} from "../native.js";
import { EventBuffer, packError, packEvent, type FromChild, type ToChild } from "./messages.js";

/** After this long without its application, what is stuck in native code is given up, in milliseconds. */
const GRACE = 3000;
/** How often the status is told while requests are under way without an event, in milliseconds. */
const STATUS_INTERVAL = 100;

let engine: NativeEngine | undefined;
const unsent = new EventBuffer();
let isSending = false;
let isClosed = false;
let running = 0;
let opened = Promise.resolve();
const planners = new Map<number, NativePlanner>();

process.on("message", (message) => receive(message as ToChild));
// Ctrl-C and the end of a service are signals to all processes of a group. What they mean, the application decides.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
process.on("disconnect", () => {
  stop();
  setTimeout(end, GRACE);
});

function receive(message: ToChild): void {
  switch (message.type) {
    case "open":
      opened = open(message.backends, message.workers);
      answer(message.call, () => opened);
      break;
    case "devices":
      answer(message.call, () => native().listDevices());
      break;
    case "planner":
      planners.set(message.planner, new (native().Planner)(message.source));
      break;
    case "measure":
      answer(message.call, () => planners.get(message.planner)?.measure(message.options));
      break;
    case "start":
      void start(message.options);
      break;
    case "submit":
      begin(message.request.id, () => engine?.submit(message.request));
      break;
    case "calibrate":
      begin(message.request.id, () => engine?.calibrate(message.request));
      break;
    case "embed":
      begin(message.request.id, () => engine?.embed(message.request));
      break;
    case "loadAdapter":
      begin(message.id, () => engine?.loadAdapter(message.id, message.path));
      break;
    case "unloadAdapter":
      begin(message.id, () => engine?.unloadAdapter(message.id, message.adapter));
      break;
    case "cancel":
      engine?.cancel(message.id);
      break;
    case "restore":
      engine?.restore(message.tokens, message.state, message.adapters);
      break;
    case "tokenize":
      answer(message.call, () => engine?.tokenize(message.text, message.addSpecial, message.parseSpecial));
      break;
    case "detokenize":
      answer(message.call, () => engine?.detokenize(message.tokens, message.renderSpecial));
      break;
    case "metrics":
      answer(message.call, () => engine?.metrics());
      break;
    case "stop":
      stop();
      break;
  }
}

function begin(id: number, submit: () => void): void {
  try {
    submit();
    running++;
  } catch (error) {
    onEvents([{ type: "failed", id, error: error as never }]);
  }
}

async function open(backends: string[], workers: string[]): Promise<void> {
  // One after the other: devices are numbered in the order in which they come.
  for (const path of backends) await native().loadBackend(path);
  for (const endpoint of workers) await native().addWorker(endpoint);
}

async function start(options: NativeEngineOptions): Promise<void> {
  try {
    await opened;
    engine = new (native().Engine)(options, onEvents);
    setInterval(tellStatus, STATUS_INTERVAL).unref();
  } catch (error) {
    onEvents([
      { type: "loadFailed", error: error as never },
      { type: "closed", error: error as never },
    ]);
  }
}

function stop(): void {
  // Without an engine it may be waiting for a worker, which nothing can interrupt.
  if (engine === undefined) end();
  else if (!isClosed) engine.stop();
}

/** Ends the process at once: threads that wait in native code would hold up any other end. */
function end(): void {
  process.kill(process.pid, "SIGKILL");
}

function onEvents(events: NativeEvent[]): void {
  for (const event of events) {
    if (endsRequest(event)) running--;
    if (event.type === "closed") isClosed = true;
  }
  unsent.add(events);
  flush();
}

/** One message at a time: what comes while the application has not taken the last one is merged. */
function flush(): void {
  if (isSending) return;
  if (unsent.isEmpty) {
    // All is freed and told.
    if (isClosed) process.exit();
    return;
  }
  isSending = true;
  const events = unsent.take().map(packEvent);
  send({ type: "events", events, status: status() }, () => {
    isSending = false;
    flush();
  });
}

function tellStatus(): void {
  if (running > 0 && !isSending) send({ type: "status", status: status() });
}

function status(): NativeStatus {
  return engine?.status() ?? IDLE;
}

function answer(call: number, ask: () => unknown): void {
  Promise.resolve()
    .then(ask)
    .then(
      (value) => send({ type: "answer", call, value }),
      (error: unknown) => send({ type: "refusal", call, error: packError(error) }),
    );
}

function send(message: FromChild, whenTaken: () => void = () => undefined): void {
  // Called with an error when the application is gone, which "disconnect" tells too.
  process.send?.(message, undefined, undefined, whenTaken);
}
