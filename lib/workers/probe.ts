// Looks at a worker before llama.cpp does, which would end the process when something is wrong.
//
// A worker has two ports. On the first it speaks llama.cpp's RPC protocol (ggml/src/ggml-rpc/ggml-rpc.cpp): a request is
// a byte with the command, a 64-bit length and as many bytes; an answer is a 64-bit length and as many bytes; numbers are
// little-endian. On the next port it says in one line of JSON what it is, and closes; llama.cpp's own rpc-server does not.

import net from "node:net";
import { ColdstartError } from "../errors.js";
import { native } from "../native.js";
import { version } from "../version.js";
import { parseEndpoint, type Endpoint } from "./endpoint.js";

/** What a worker says of itself. */
export interface WorkerFacts {
  coldstart: string;
  llamaCpp: string;
  /** Whether it serves somebody; others wait meanwhile. */
  busy: boolean;
  devices: {
    name: string;
    description: string;
    backend: string;
    type: string;
    memoryTotal: number;
    memoryFree: number;
  }[];
}

export interface Worker {
  endpoint: string;
  /** Undefined of llama.cpp's own rpc-server. */
  facts: WorkerFacts | undefined;
  /** Of its devices, in bytes, now. */
  memory: { total: number; free: number }[];
}

const TIMEOUT = 5000;
const FACTS_TIMEOUT = 2000;
const FACTS_LENGTH = 2 ** 20;

const COMMAND = { getDeviceMemory: 11, hello: 14, deviceCount: 15 } as const;
const CAPABILITIES_BYTES = 24;
const HELLO_BYTES = 4 + CAPABILITIES_BYTES;

/**
 * Throws `WORKER_UNREACHABLE` when there is nobody who answers in time, and `WORKER_MISMATCH` when it is no worker or one of
 * another release.
 */
export async function probeWorker(
  endpoint: string,
  {
    timeout = TIMEOUT,
    signal,
    compare = true,
  }: {
    timeout?: number;
    signal?: AbortSignal | undefined;
    /** Whether to look at the release. */
    compare?: boolean;
  } = {},
): Promise<Worker> {
  const address = parseEndpoint("workers", endpoint);
  // What is not needed any more when the other part has failed.
  const settled = new AbortController();
  const untilSettled = signal ? AbortSignal.any([signal, settled.signal]) : settled.signal;
  const facts = compare
    ? readFacts(address, Math.min(timeout, FACTS_TIMEOUT), untilSettled)
    : Promise.resolve(undefined);
  const fits = facts.then((told) => checkRelease(endpoint, told));
  const memory = shakeHands(endpoint, address, timeout, untilSettled, facts);
  try {
    await Promise.all([memory, fits]);
    return { endpoint, facts: await facts, memory: await memory };
  } catch (error) {
    // Of another release, it may speak another protocol too: the release says more.
    await fits;
    throw error;
  } finally {
    settled.abort();
    memory.catch(() => undefined);
  }
}

/** Notes on workers of which only the protocol is known to fit. */
export function workerNotes(workers: Worker[]): string[] {
  return workers
    .filter(({ facts }) => facts === undefined)
    .map(
      ({ endpoint }) =>
        `The worker at ${endpoint} does not say its release (llama.cpp's own rpc-server?): only its protocol, ${native().rpcVersion()}, is known to fit.`,
    );
}

function checkRelease(endpoint: string, facts: WorkerFacts | undefined): void {
  if (facts === undefined) return;
  const ours = version();
  if (facts.coldstart === ours.coldstart && facts.llamaCpp === ours.llamaCpp) return;
  throw mismatch(
    endpoint,
    `runs coldstart ${facts.coldstart} with llama.cpp ${facts.llamaCpp}, and this is coldstart ${ours.coldstart} with llama.cpp ${ours.llamaCpp}`,
    { coldstart: facts.coldstart, llamaCpp: facts.llamaCpp },
  );
}

/** What the worker says of itself; undefined when there is no answer, or another one. */
export async function readFacts(
  { host, port }: Endpoint,
  timeout: number,
  signal?: AbortSignal,
): Promise<WorkerFacts | undefined> {
  const socket = net.connect({ host, port: port + 1, family: 4, ...(signal && { signal }) });
  socket.setTimeout(timeout, () => socket.destroy());
  // However slowly it speaks.
  const deadline = setTimeout(() => socket.destroy(), timeout);
  let text = "";
  try {
    for await (const bytes of socket.setEncoding("utf8")) {
      text += bytes as string;
      if (text.includes("\n") || text.length > FACTS_LENGTH) break;
    }
    const facts = JSON.parse(text) as WorkerFacts | null;
    return typeof facts?.coldstart === "string" && typeof facts.llamaCpp === "string" ? facts : undefined;
  } catch {
    return undefined; // There is nobody, or somebody else.
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

/** Returns the memory of its devices. */
async function shakeHands(
  endpoint: string,
  { host, port }: Endpoint,
  timeout: number,
  signal: AbortSignal,
  facts: Promise<WorkerFacts | undefined>,
): Promise<Worker["memory"]> {
  const socket = net.connect({ host, port, family: 4, noDelay: true, signal });
  let isConnected = false;
  let isLate = false;
  socket.once("connect", () => (isConnected = true));
  const deadline = setTimeout(() => {
    isLate = true;
    socket.destroy(new Error("no answer in time"));
  }, timeout);
  const chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
  let received = Buffer.alloc(0);

  /** The next answer, which must have this length. */
  const read = async (bytes: number): Promise<Buffer> => {
    while (received.length < 8 + bytes) {
      const { value } = await chunks.next();
      if (value === undefined) throw mismatch(endpoint, "closed the connection instead of answering as a worker does");
      received = Buffer.concat([received, value]);
      if (received.length >= 8 && received.readBigUInt64LE() !== BigInt(bytes)) {
        throw mismatch(endpoint, "does not answer as a worker does");
      }
    }
    const answer = received.subarray(8, 8 + bytes);
    received = received.subarray(8 + bytes);
    return answer;
  };
  const request = (command: number, body = Buffer.alloc(0)) => {
    const head = Buffer.alloc(9);
    head.writeUInt8(command);
    head.writeBigUInt64LE(BigInt(body.length), 1);
    socket.write(Buffer.concat([head, body]));
  };

  try {
    request(COMMAND.hello, Buffer.alloc(CAPABILITIES_BYTES));
    const protocol = (await read(HELLO_BYTES)).subarray(0, 3).join(".");
    if (protocol !== native().rpcVersion()) {
      throw mismatch(
        endpoint,
        `speaks version ${protocol} of llama.cpp's RPC protocol, and this is ${native().rpcVersion()}`,
        {
          protocol,
        },
      );
    }
    request(COMMAND.deviceCount);
    const count = (await read(4)).readUInt32LE();
    const memory = [];
    for (let device = 0; device < count; device++) {
      const body = Buffer.alloc(4);
      body.writeUInt32LE(device);
      request(COMMAND.getDeviceMemory, body);
      const answer = await read(16);
      memory.push({ free: Number(answer.readBigUInt64LE(0)), total: Number(answer.readBigUInt64LE(8)) });
    }
    return memory;
  } catch (error) {
    if (error instanceof ColdstartError || signal.aborted) throw error;
    throw unreachable(endpoint, { error, timeout, isConnected, isLate, isBusy: (await facts)?.busy === true });
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

function mismatch(endpoint: string, what: string, details: Record<string, unknown> = {}): ColdstartError {
  return new ColdstartError("WORKER_MISMATCH", `${endpoint} ${what}.`, {
    remedy: "Run the same release of coldstart on all machines: `coldstart worker` on those that serve.",
    details: { endpoint, ...details },
  });
}

function unreachable(
  endpoint: string,
  how: { error: unknown; timeout: number; isConnected: boolean; isLate: boolean; isBusy: boolean },
): ColdstartError {
  const { error, timeout, isConnected, isLate, isBusy } = how;
  let what = `There is no worker at ${endpoint}: ${(error as Error).message}.`;
  let remedy = "Start one there with `coldstart worker`, and see that firewalls let both of its ports through.";
  if (isLate && !isConnected) what = `There is no worker at ${endpoint}: no connection within ${timeout / 1000} s.`;
  else if (isLate) {
    what = `The worker at ${endpoint} did not answer within ${timeout / 1000} s${isBusy ? ": it serves another client" : ""}.`;
    remedy = "A worker serves one client at a time: dispose the model that uses it, or start another worker.";
  }
  return new ColdstartError("WORKER_UNREACHABLE", what, {
    remedy,
    details: { endpoint, busy: isBusy },
    cause: error,
  });
}
