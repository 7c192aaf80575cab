// What the scripts of llama-server share: starting it, and requests over HTTP that stream their tokens.

import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { job, TEMPERATURE, TOP_K, TOP_P } from "./job.mjs";

const host = "127.0.0.1";

/**
 * Starts `job.server` and resolves when it answers. `job.load` has its arguments.
 */
export async function startServer() {
  const port = await freePort();
  const pinned = ["-t", String(job.threads), "-tb", String(job.threads)];
  const adapters = (job.adapters ?? []).flatMap((file) => ["--lora", file]);
  const args = ["-m", job.model, "--host", host, "--port", String(port), ...pinned, ...adapters, ...job.load];
  const server = spawn(job.server, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  server.stderr.on("data", (chunk) => (said = (said + chunk).slice(-2000)));
  process.on("exit", () => server.kill("SIGKILL"));
  for (let i = 0; i < 600 && server.exitCode === null; i++) {
    if (await isHealthy(port)) {
      return {
        complete: (prompt, options) => complete(port, prompt, options),
        embed: (texts) => embed(port, texts),
        peakMemory: () => peakMemoryOf(server.pid),
        async stop() {
          server.kill("SIGKILL");
          await once(server, "exit");
        },
      };
    }
    await sleep(50);
  }
  throw new Error(`llama-server did not start. ${said.split("\n").slice(-3).join(" ")}`);
}

/**
 * One completion, streamed. Resolves to its tokens and to when they arrived: `[milliseconds, tokens][]`.
 * @param {{ tokens: number, seed: number, lora?: { id: number, scale: number }[], cachePrompt?: boolean }} options
 */
async function complete(port, prompt, { tokens, seed, lora = [], cachePrompt = true }) {
  const body = JSON.stringify({
    prompt,
    n_predict: tokens,
    seed,
    stream: true,
    ignore_eos: true,
    cache_prompt: cachePrompt,
    lora,
    temperature: TEMPERATURE,
    top_k: TOP_K,
    top_p: TOP_P,
    min_p: 0,
  });
  // A connection for each request: the server closes one after a streamed answer, though it says keep-alive.
  const request = http.request({ host, port, agent: false, path: "/completion", method: "POST" });
  request.setNoDelay(true);
  request.setHeader("content-type", "application/json");
  request.end(body);
  const [response] = await once(request, "response");
  if (response.statusCode !== 200) throw new Error(`llama-server answered ${response.statusCode}`);
  const answer = { tokens: [], arrivals: [] };
  response.setEncoding("utf8");
  let rest = "";
  for await (const chunk of response) {
    const at = performance.now();
    const events = (rest + chunk).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: {")) continue;
      const { stop, tokens: some } = JSON.parse(event.slice("data: ".length));
      if (stop || some.length === 0) continue;
      answer.tokens.push(...some);
      answer.arrivals.push([at, some.length]);
    }
  }
  return answer;
}

/** Vectors of texts, in one request. */
async function embed(port, texts) {
  const response = await fetch(`http://${host}:${port}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ input: texts }),
  });
  if (!response.ok) throw new Error(`llama-server answered ${response.status}`);
  return (await response.json()).data.map(({ embedding }) => embedding);
}

function isHealthy(port) {
  return new Promise((resolve) => {
    http
      .get({ host, port, path: "/health" }, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      })
      .on("error", () => resolve(false));
  });
}

async function freePort() {
  const probe = net.createServer().listen(0, host);
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** MiB; undefined where there is no /proc. */
function peakMemoryOf(pid) {
  try {
    const [, kib] = /VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return Number(kib) / 1024;
  } catch {
    return undefined;
  }
}
