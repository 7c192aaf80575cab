// A real Prometheus that scrapes a server under load, and what its queries say beside what the load's generator saw.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import path from "node:path";
import OpenAI from "openai";
import { loadModel } from "../../lib/index.js";
import { createServer } from "../../lib/server/index.js";
import { root, TINY_STORIES } from "../support/models.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const there = (command: string) => spawnSync(command, ["--version"]).status === 0;
const deploy = (name: string) => path.join(root, "deploy", name);

describe("deploy/", function () {
  this.timeout(60_000);

  it("has a configuration and alerts that promtool takes, which fire when they should", function () {
    if (!there("promtool")) this.skip();
    for (const args of [
      ["check", "config", deploy("prometheus.yml")],
      ["test", "rules", deploy("alerts.test.yml")],
    ]) {
      const { status, stdout, stderr } = spawnSync("promtool", args, { encoding: "utf8" });
      assert.equal(status, 0, stdout + stderr);
    }
  });
});

describe("Prometheus", function () {
  this.timeout(120_000);
  // The clients are on the same two cores as the model, and share them with whatever else runs.
  this.retries(3);
  const folder = temporaryFolder();

  async function freePort(): Promise<number> {
    const server = createTcpServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }

  it("scrapes a server under load, and tells of percentiles and speed what its clients saw", async function () {
    if (!there("prometheus")) this.skip();
    const model = await loadModel(TINY_STORIES, { threads: 1, parallel: 2, contextLength: 2048 });
    const server = await createServer(model, {
      port: 0,
      alias: "stories",
      metricsPort: 0,
      metrics: { bucketsPerOctave: 16 },
    });
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
    const port = await freePort();
    const target = new URL(server.metricsUrl ?? "").host;
    const config = `global: { scrape_interval: 1s }\nscrape_configs: [{ job_name: coldstart, static_configs: [{ targets: ["${target}"] }] }]\n`;
    writeFileSync(folder.path("prometheus.yml"), config);
    const args = [
      `--config.file=${folder.path("prometheus.yml")}`,
      `--storage.tsdb.path=${folder.path("data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ];
    const prometheus = spawn("prometheus", args, { stdio: "ignore" });
    const query = async (text: string): Promise<number> => {
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(text)}`;
      const answer = (await (await fetch(url)).json()) as { data: { result: { value: [number, string] }[] } };
      return Number(answer.data.result[0]?.value[1] ?? NaN);
    };
    const until = async (condition: () => Promise<boolean>) => {
      for (let i = 0; !(await condition().catch(() => false)); i++) {
        assert.ok(i < 300, "Prometheus does not get there");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    try {
      await until(async () => (await query("up")) === 1);
      const seconds: number[] = [];
      /** Of each answer its tokens, and when how much of its text had come. */
      const answers: { tokens: number; arrivals: { at: number; share: number }[] }[] = [];
      const ask = async (seed: number) => {
        const began = performance.now();
        const stream = await client.completions.create({
          model: "stories",
          prompt: "Once upon a time",
          max_tokens: 400 + (seed % 5) * 200,
          seed,
          logit_bias: { 2: -100 },
          stream: true,
          stream_options: { include_usage: true },
        });
        const arrivals: { at: number; length: number }[] = [];
        let length = 0;
        let tokens = 0;
        for await (const chunk of stream) {
          length += chunk.choices[0]?.text.length ?? 0;
          tokens = chunk.usage?.completion_tokens ?? tokens;
          arrivals.push({ at: Date.now() / 1000, length });
        }
        seconds.push((performance.now() - began) / 1000);
        answers.push({ tokens, arrivals: arrivals.map(({ at, length: then }) => ({ at, share: then / length })) });
      };
      // Two at a time, as the model computes: none waits.
      const began = performance.now();
      const lane = async (first: number) => {
        for (let seed = first; performance.now() - began < 12_000; seed += 2) await ask(seed);
      };
      await Promise.all([lane(0), lane(1)]);
      const end = Date.now() / 1000;
      const tokensUntil = (time: number) =>
        answers.reduce((sum, { tokens, arrivals }) => {
          const last = arrivals.findLast(({ at }) => at <= time);
          return sum + tokens * (last?.share ?? 0);
        }, 0);
      await until(async () => (await query("coldstart:generation_tokens_total")) === tokensUntil(Infinity));

      const within = (found: number, seen: number, what: string) =>
        assert.ok(Math.abs(found / seen - 1) < 0.05, `${what}: ${found}, and the clients saw ${seen}`);
      seconds.sort((a, b) => a - b);
      for (const q of [0.5, 0.9, 0.99]) {
        const found = await query(`histogram_quantile(${q}, coldstart:e2e_request_latency_seconds_bucket)`);
        within(found, seconds[Math.ceil(q * seconds.length) - 1] ?? NaN, `quantile ${q} of ${seconds.length} requests`);
      }
      assert.equal(await query("coldstart:e2e_request_latency_seconds_count"), seconds.length);
      // Of eight seconds under load.
      const at = end - 1;
      const seen = (tokensUntil(at) - tokensUntil(at - 8)) / 8;
      within(await query(`rate(coldstart:generation_tokens_total[8s] @ ${at})`), seen, "tokens per second");
      assert.equal(await query('coldstart:request_success_total{finished_reason="length"}'), seconds.length);
    } finally {
      prometheus.kill("SIGKILL");
      await server.close();
      await model.dispose();
    }
  });
});
