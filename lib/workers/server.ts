// Serves this machine's devices to others: llama.cpp's RPC server in a process that is started again when it crashes, and
// beside it, on the next port, a line of JSON that says what this worker is.

import type { ChildProcess } from "node:child_process";
import dns from "node:dns/promises";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ColdstartError } from "../errors.js";
import { forkScript } from "../fork-script.js";
import { abortMessage } from "../isolation/crash.js";
import { unpackError } from "../isolation/messages.js";
import type { NativeDevice } from "../native.js";
import { invalidOption } from "../options.js";
import type { Endpoint } from "./endpoint.js";
import { probeWorker, type WorkerFacts } from "./probe.js";
import type { FromServer, ToServer } from "./server-process.js";

export interface WorkerOptions {
  listen: Endpoint;
  /** Whether others than this machine may connect. */
  allowRemote: boolean;
  /** Empty: none. */
  cacheDirectory: string;
  threads: number;
  /** Names; empty: the GPUs, or without one the CPU. */
  devices: string[];
  /** Of this package. */
  coldstart: string;
}

export interface ServedWorker {
  /** Resolved. */
  endpoint: string;
  facts: WorkerFacts;
}

/** What happens while serving. */
export interface WorkerEvents {
  ready(worker: ServedWorker): void;
  /** Somebody uses the worker, or nobody does any more. */
  busy(isBusy: boolean): void;
  /** The server crashed and is started again. */
  crashed(reason: string): void;
}

/** How long the server may take to answer itself, in milliseconds. */
const START_TIMEOUT = 60_000;
/** A client connects several times while it loads; that is not told each time. Milliseconds. */
const SETTLE = 500;
/** Before a crashed server is started again, in milliseconds. */
const RESTART_DELAY = 1000;

/** Serves until the process ends. Throws when that cannot be. */
export async function serveWorker(options: WorkerOptions, events: WorkerEvents): Promise<never> {
  const address = await resolve(options);
  const facts: WorkerFacts = { coldstart: options.coldstart, llamaCpp: "", busy: false, devices: [] };
  const teller = await listen(address.host, address.port + 1, (socket) => {
    socket.on("error", () => undefined); // It went away.
    socket.end(`${JSON.stringify(facts)}\n`);
  });
  try {
    for (;;) {
      const server = new Server(`${address.host}:${address.port}`, options, facts, (isBusy) => events.busy(isBusy));
      await server.ready();
      events.ready({ endpoint: server.endpoint, facts });
      events.crashed(await server.crash);
      facts.busy = false;
      await delay(RESTART_DELAY);
    }
  } finally {
    teller.close();
  }
}

/** The address to listen on. Throws `INVALID_OPTION` when it is one that others can reach, and that was not allowed. */
async function resolve({ listen: { host, port }, allowRemote }: WorkerOptions): Promise<Endpoint> {
  let address;
  try {
    ({ address } = await dns.lookup(host, 4));
  } catch (error) {
    throw invalidOption("--listen", `${host}:${port}`, `an address of this machine (${(error as Error).message})`);
  }
  if (!address.startsWith("127.") && !allowRemote) {
    throw new ColdstartError("INVALID_OPTION", `${address} can be reached from other machines.`, {
      remedy:
        "The protocol has no authentication and no encryption: whoever reaches the port can use this machine's memory and " +
        "perhaps take it over. Listen on 127.0.0.1 and use a tunnel (docs/workers.md), or pass --allow-remote in a network where everybody is trusted.",
      details: { option: "--listen", value: `${host}:${port}` },
    });
  }
  return { host: address, port };
}

async function listen(host: string, port: number, onConnection: (socket: net.Socket) => void): Promise<net.Server> {
  const server = net.createServer(onConnection);
  await new Promise<void>((onListening, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const reason = error.code === "EADDRINUSE" ? "the port is in use" : error.message;
      reject(
        new ColdstartError("INVALID_OPTION", `Nothing can listen on ${host}:${port}: ${reason}.`, {
          remedy: "A worker needs an address of this machine, the port of --listen and the one after it.",
          details: { option: "--listen", host, port },
          cause: error,
        }),
      );
    });
    server.listen({ host, port }, onListening);
  });
  return server;
}

/** One run of the serving process. */
class Server {
  /** Resolves with the reason when it ends after it was ready. */
  readonly crash: Promise<string>;

  readonly endpoint: string;
  readonly #child: ChildProcess;
  readonly #facts: WorkerFacts;
  readonly #onBusy: (isBusy: boolean) => void;
  readonly #failed: Promise<never>;
  #isReady = false;
  #toldBusy = false;
  #timer: NodeJS.Timeout | undefined;
  #lastWords = "";

  constructor(endpoint: string, options: WorkerOptions, facts: WorkerFacts, onBusy: (isBusy: boolean) => void) {
    this.endpoint = endpoint;
    this.#facts = facts;
    this.#onBusy = onBusy;
    this.#child = forkScript("workers/server-process", {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    const { cacheDirectory, threads, devices } = options;
    this.#child.send({ endpoint, cacheDirectory, threads, devices } satisfies ToServer, () => undefined);
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#onOutput(text));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      process.stderr.write(text);
      this.#lastWords = (this.#lastWords + text).slice(-4096);
    });
    this.crash = new Promise((onCrash) => {
      this.#child.once("close", (code, signal) => {
        clearTimeout(this.#timer);
        const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
        const reason = abortMessage(this.#lastWords);
        onCrash(reason === undefined ? how : `${how}: ${reason}`);
      });
    });
    this.#failed = new Promise((_resolve, reject) => {
      this.#child.on("message", (message) => {
        const told = message as FromServer;
        if (told.type === "ended") reject(unpackError(told.error));
        else this.#serves(told.devices, told.llamaCpp);
      });
      void this.crash.then((reason) =>
        reject(new ColdstartError("INTERNAL", `The server ended (${reason}).`, { remedy: "See its messages above." })),
      );
    });
    this.#failed.catch(() => undefined);
  }

  /** Resolves when it answers, and throws when it cannot serve. */
  async ready(): Promise<void> {
    const port = this.endpoint.slice(this.endpoint.lastIndexOf(":"));
    const self = this.endpoint.startsWith("0.0.0.0:") ? `127.0.0.1${port}` : this.endpoint;
    let isGivenUp = false;
    const answers = async () => {
      for (const deadline = Date.now() + START_TIMEOUT; ;) {
        try {
          return await probeWorker(self, { compare: false });
        } catch (error) {
          if (isGivenUp || Date.now() > deadline) throw error;
          await delay(50);
        }
      }
    };
    try {
      await Promise.race([answers(), this.#failed]);
    } catch (error) {
      isGivenUp = true;
      this.#child.kill("SIGKILL");
      throw error;
    }
    this.#isReady = true;
  }

  #serves(devices: NativeDevice[], llamaCpp: string): void {
    this.#facts.devices = devices;
    this.#facts.llamaCpp = llamaCpp;
  }

  /** llama.cpp's server says in lines of its own who comes and goes. */
  #onOutput(text: string): void {
    const comes = text.lastIndexOf("Accepted client connection");
    const goes = text.lastIndexOf("Client connection closed");
    if (comes === goes) return; // Neither.
    this.#facts.busy = comes > goes;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (!this.#isReady || this.#facts.busy === this.#toldBusy) return;
      this.#toldBusy = this.#facts.busy;
      this.#onBusy(this.#toldBusy);
    }, SETTLE);
  }
}
