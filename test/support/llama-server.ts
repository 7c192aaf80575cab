// llama-server, built from the same pin (npm test builds it first).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import path from "node:path";
import { root } from "./models.js";

/** Runs `body` with the address of a server that has loaded the model, on one thread. */
export async function withLlamaServer<T>(model: string, args: string[], body: (url: string) => Promise<T>): Promise<T> {
  const port = await freePort();
  const common = ["-m", model, "-c", "256", "-np", "1", "-t", "1", "--no-warmup", "--jinja", "--offline"];
  const file = path.join(root, "build", "cmake", "bin", "llama-server");
  const server = spawn(file, [...common, "--port", String(port), ...args], { stdio: "ignore" });
  try {
    const url = `http://127.0.0.1:${port}`;
    for (let tries = 0; ; tries++) {
      const response = await fetch(`${url}/health`).catch(() => undefined);
      if (response?.ok) break;
      assert.ok(tries < 600 && server.exitCode === null, `llama-server does not start with ${args.join(" ")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return await body(url);
  } finally {
    server.kill("SIGKILL");
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
