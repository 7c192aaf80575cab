// Workers for tests: real ones on this machine's loopback interface, and what stands between or pretends to be one.

import { spawn, type ChildProcess } from "node:child_process";
import net from "node:net";
import path from "node:path";
import { version } from "../../lib/index.js";
import { root } from "./models.js";

/** A port that is free together with the next one. */
export async function freePorts(): Promise<number> {
  for (;;) {
    const port = await new Promise<number>((resolve, reject) => {
      const server = net.createServer().listen(0, "127.0.0.1", () => {
        const { port } = server.address() as net.AddressInfo;
        server.close(() => resolve(port));
      });
      server.on("error", reject);
    });
    if (port < 65_535 && (await canListen(port + 1))) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer().once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

export interface TestWorker {
  endpoint: string;
  port: number;
  process: ChildProcess;
  /** What it printed so far. */
  output(): string;
  stop(): Promise<void>;
}

/** `coldstart worker`, ready to be used. Without a cache unless a folder is given. */
export async function startWorker({ cache }: { cache?: string } = {}): Promise<TestWorker> {
  const port = await freePorts();
  const endpoint = `127.0.0.1:${port}`;
  const args = ["worker", "--listen", endpoint, "--threads", "1", ...(cache ? ["--cache", cache] : ["--no-cache"])];
  const child = spawn(process.execPath, [path.join(root, "dist/cli/main.js"), ...args]);
  let output = "";
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    const onText = (text: string) => {
      output += text;
      if (output.includes("Ready")) resolve();
    };
    child.stdout.setEncoding("utf8").on("data", onText);
    child.stderr.setEncoding("utf8").on("data", onText);
    void ended.then(() => reject(new Error(output)));
  });
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  return { endpoint, port, process: child, output: () => output, stop };
}

export interface FakeServer {
  endpoint: string;
  close(): void;
}

type OnConnection = (socket: net.Socket) => void;

/** A server at a pair of ports; on the second nobody listens unless `onFacts` is given. */
export async function fakeServer(onRpc: OnConnection, onFacts?: OnConnection): Promise<FakeServer> {
  const port = await freePorts();
  const sockets = new Set<net.Socket>();
  const listen = (at: number, onConnection: OnConnection) =>
    new Promise<net.Server>((resolve) => {
      const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
        onConnection(socket);
      });
      server.listen(at, "127.0.0.1", () => resolve(server));
    });
  const servers = [await listen(port, onRpc), ...(onFacts ? [await listen(port + 1, onFacts)] : [])];
  const close = () => {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { endpoint: `127.0.0.1:${port}`, close };
}

/** Says what a worker says of itself, on its second port. */
export const saysFacts =
  (facts: object = {}) =>
  (socket: net.Socket) => {
    const { coldstart, llamaCpp } = version();
    socket.end(`${JSON.stringify({ coldstart, llamaCpp, busy: false, devices: [], ...facts })}\n`);
  };

/** The answer to HELLO of a server with this protocol version. */
export function helloAnswer(major: number, minor: number, patch: number): Buffer {
  const answer = Buffer.alloc(8 + 28);
  answer.writeBigUInt64LE(28n);
  answer.set([major, minor, patch], 8);
  return answer;
}

export interface Proxy extends FakeServer {
  /** Bytes to the worker so far. */
  sent(): number;
  /** From now on nothing comes through any more, and nothing is closed either: as when a cable is pulled. */
  cut(): void;
}

/** Stands between a client and both ports of a worker. */
export async function proxyTo(worker: TestWorker, { withFacts = true } = {}): Promise<Proxy> {
  let sent = 0;
  let isCut = false;
  const forward =
    (port: number): OnConnection =>
    (socket) => {
      const upstream = net.connect(port, "127.0.0.1").setNoDelay();
      socket.setNoDelay();
      upstream.on("error", () => undefined);
      socket.on("data", (bytes) => {
        if (isCut) return;
        sent += bytes.length;
        upstream.write(bytes);
      });
      upstream.on("data", (bytes) => isCut || socket.write(bytes));
      socket.on("close", () => upstream.destroy());
      upstream.on("close", () => isCut || socket.end());
    };
  const server = await fakeServer(forward(worker.port), withFacts ? forward(worker.port + 1) : undefined);
  return { ...server, sent: () => sent, cut: () => (isCut = true) };
}
