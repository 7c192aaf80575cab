// Models over several machines: real workers on the loopback interface, and servers that are none.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { loadModel, planModel, type GenerateOptions, type LoadOptions } from "../lib/index.js";
import { parseEndpoint } from "../lib/workers/endpoint.js";
import { probeWorker } from "../lib/workers/probe.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, root, TINY_STORIES, withModel } from "./support/models.js";
import { childrenOf, isAlive, until } from "./support/processes.js";
import { F16, randomModel } from "./support/random-model.js";
import {
  fakeServer,
  freePorts,
  helloAnswer,
  proxyTo,
  saysFacts,
  startWorker,
  type TestWorker,
} from "./support/workers.js";

const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 60, logitBias: { 2: -Infinity } };
const ENDLESS: GenerateOptions = {
  temperature: 0,
  overflow: "shift",
  maxTokens: 1_000_000,
  logitBias: { 2: -Infinity },
};

const loadTiny = (options: LoadOptions) => loadModel(TINY_STORIES, { threads: 1, ...options });

describe("workers", () => {
  let a: TestWorker;
  let b: TestWorker;
  let greedy: number[];
  before(async () => {
    [a, b] = await Promise.all([startWorker(), startWorker()]);
    greedy = await withModel({}, async (model) => (await model.generate(PROMPT, GREEDY).result).tokens);
  });
  after(async () => {
    await Promise.all([a.stop(), b.stop()]);
  });

  it("compute the tokens of one process: one worker", async () => {
    await withModel({ workers: [a.endpoint] }, async (model) => {
      assert.deepEqual((await model.generate(PROMPT, GREEDY).result).tokens, greedy);
      const { placement } = model;
      assert.equal(placement.gpuLayers, 5);
      assert.notEqual(placement.pid, process.pid);
      assert.deepEqual(placement.notes, []);
      const [cpu, remote] = placement.devices;
      assert.equal(placement.reasons.devices, "those of the workers");
      assert.deepEqual(
        [remote?.name, remote?.backend, remote?.description, cpu?.backend],
        ["RPC0", "RPC", a.endpoint, "CPU"],
      );
      assert.ok(remote!.weights > 3_000_000 && remote!.kvCache > 0 && cpu!.kvCache === 0);
    });
  });

  it("compute the tokens of one process: two workers, many generations, sessions", async () => {
    await withModel({ workers: [a.endpoint, b.endpoint], deterministic: true }, async (model) => {
      const remote = model.placement.devices.filter(({ backend }) => backend === "RPC");
      assert.deepEqual(
        remote.map(({ description }) => description),
        [a.endpoint, b.endpoint],
      );
      assert.ok(remote.every(({ weights, kvCache }) => weights > 0 && kvCache > 0));
      const results = await Promise.all(Array.from({ length: 6 }, () => model.generate(PROMPT, GREEDY).result));
      for (const { tokens } of results) assert.deepEqual(tokens, greedy);
      const session = model.session();
      await session.append(PROMPT);
      const restored = model.session();
      await restored.restore(await session.snapshot());
      assert.deepEqual((await restored.generate(undefined, GREEDY).result).tokens, greedy);
    });
  });

  it("are part of a plan", async () => {
    const options = { workers: [a.endpoint, b.endpoint], threads: 1 };
    const plan = await planModel(TINY_STORIES, options);
    const ofPlan = plan.devices.map(({ description, weights, kvCache }) => ({ description, weights, kvCache }));
    assert.equal(plan.fits && plan.gpuLayers, 5);
    await withModel(options, async ({ placement }) => {
      const loaded = placement.devices.map(({ description, weights, kvCache }) => ({ description, weights, kvCache }));
      assert.deepEqual(loaded, ofPlan);
    });
  });

  it("take as many layers as they are asked to", async () => {
    await withModel({ workers: [a.endpoint], gpuLayers: 2 }, async (model) => {
      assert.equal(model.placement.gpuLayers, 2);
      const kv = Object.fromEntries(model.placement.devices.map(({ name, kvCache }) => [name, kvCache]));
      assert.ok(kv["RPC0"]! > 0 && kv["CPU"]! > kv["RPC0"]!);
      assert.deepEqual((await model.generate(PROMPT, GREEDY).result).tokens, greedy);
    });
  });

  it("serve one client at a time, and are free again afterwards", async () => {
    const first = await loadTiny({ workers: [a.endpoint] });
    await assert.rejects(
      loadTiny({ workers: [a.endpoint] }),
      coldstartError("WORKER_UNREACHABLE", /serves another client/),
    );
    await first.dispose();
    await (await loadTiny({ workers: [a.endpoint] })).dispose();
    await until(() => a.output().trimEnd().endsWith("free"));
  });

  it("say their memory and devices", async () => {
    const { facts, memory } = await probeWorker(a.endpoint);
    assert.equal(facts?.devices[0]?.backend, "CPU");
    assert.ok(memory.length === 1 && memory[0]!.total > 2 ** 20 && memory[0]!.free <= memory[0]!.total);
  });

  it("may be llama.cpp's own, which does not say its release: that is noted", async () => {
    const proxy = await proxyTo(a, { withFacts: false });
    await withModel({ workers: [proxy.endpoint] }, async (model) => {
      assert.match(model.placement.notes[0]!, /does not say its release .* 7\.0\.0/);
      assert.deepEqual((await model.generate(PROMPT, GREEDY).result).tokens, greedy);
    });
    proxy.close();
  });

  it("can be given up while they load", async () => {
    const silent = await fakeServer(() => undefined, saysFacts());
    await assert.rejects(
      loadTiny({ workers: [silent.endpoint], signal: AbortSignal.timeout(50) }),
      coldstartError("ABORTED"),
    );
    silent.close();
  });

  it("keep large tensors, which are sent once, and no damaged ones", async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-workers-"));
    const cache = path.join(folder, "cache");
    const file = path.join(folder, "model.gguf");
    // Its output matrix, of 12 MiB, is above the 10 MiB from which llama.cpp keeps tensors.
    const shape = { vocabulary: 12_288, width: 512, feedForward: 512, layers: 2, heads: 8, keyValueHeads: 8 };
    writeFileSync(file, randomModel({ type: F16, ...shape, contextLength: 256, tied: false }));
    const worker = await startWorker({ cache });
    try {
      const options = { path: file, contextLength: 128 };
      const expected = await withModel(options, async (model) => (await model.generate("a b", GREEDY).result).tokens);
      const load = async () => {
        const proxy = await proxyTo(worker);
        await withModel({ ...options, workers: [proxy.endpoint] }, async (model) => {
          assert.deepEqual(
            (await model.generate("a b", { ...GREEDY, maxTokens: 40 }).result).tokens,
            expected.slice(0, 40),
          );
        });
        proxy.close();
        return proxy.sent();
      };
      const tensor = 12 * 2 ** 20;
      const first = await load();
      const [name] = readdirSync(cache);
      const kept = path.join(cache, name!);
      assert.equal(statSync(kept).size, tensor);
      const second = await load();
      assert.ok(second < first - 0.9 * tensor, `${first} bytes, then ${second}`);
      truncateSync(kept, tensor / 2);
      assert.ok((await load()) > first - 0.1 * tensor, "sent again");
      assert.equal(statSync(kept).size, tensor);
    } finally {
      await worker.stop();
      rmSync(folder, { recursive: true });
    }
  });

  describe("that are lost", () => {
    it("while generating: ENGINE_CRASHED names them, and the application goes on", async () => {
      const mortal = await startWorker();
      const model = await loadTiny({ workers: [b.endpoint, mortal.endpoint] });
      const generation = model.generate(PROMPT, ENDLESS);
      await assert.rejects(
        async () => {
          for await (const _chunk of generation) mortal.process.kill("SIGKILL");
        },
        coldstartError("ENGINE_CRASHED", new RegExp(`Remote RPC server crashed.* No answer from ${mortal.endpoint}`)),
      );
      await assert.rejects(generation.result, (error: { details: Record<string, unknown> }) => {
        assert.deepEqual(error.details["lostWorkers"], [mortal.endpoint]);
        assert.deepEqual(error.details["signal"], "SIGABRT");
        return true;
      });
      assert.equal(model.disposed, true);
      await model.dispose();
      // The other worker serves again, and so does this process.
      await withModel({ workers: [b.endpoint] }, async (other) => {
        assert.deepEqual((await other.generate(PROMPT, GREEDY).result).tokens, greedy);
      });
      await withModel({}, async (other) => {
        assert.deepEqual((await other.generate(PROMPT, GREEDY).result).tokens, greedy);
      });
    });

    it("while the model lies idle: dispose() works, and so would the next call have failed", async () => {
      const mortal = await startWorker();
      const models = [await loadTiny({ workers: [mortal.endpoint] })];
      await mortal.stop();
      await assert.rejects(models[0]!.generate(PROMPT, GREEDY).result, coldstartError("ENGINE_CRASHED"));
      const other = await startWorker();
      models.push(await loadTiny({ workers: [other.endpoint] }));
      await other.stop();
      for (const model of models) await model.dispose();
      assert.ok(models.every(({ placement }) => !isAlive(placement.pid)));
    });

    it("without a word, as by a cable pulled", async () => {
      const proxy = await proxyTo(a);
      const model = await loadTiny({ workers: [proxy.endpoint] });
      const generation = model.generate(PROMPT, ENDLESS);
      await assert.rejects(
        async () => {
          for await (const _chunk of generation) proxy.cut();
        },
        coldstartError("ENGINE_CRASHED", new RegExp(`in vain. No answer from ${proxy.endpoint}`)),
      );
      await model.dispose();
      proxy.close();
    });

    it("are started again when their server crashes", async function () {
      if (process.platform !== "linux") this.skip(); // Where the server is found.
      const worker = await startWorker();
      try {
        const model = await loadTiny({ workers: [worker.endpoint] });
        for (const pid of childrenOf(worker.process.pid!)) process.kill(pid, "SIGKILL");
        await assert.rejects(model.generate(PROMPT, GREEDY).result, coldstartError("ENGINE_CRASHED"));
        await until(() => worker.output().includes("ready again"));
        assert.match(worker.output(), /the server ended \(signal SIGKILL\); starting it again/);
        await withModel({ workers: [worker.endpoint] }, async (again) => {
          assert.deepEqual((await again.generate(PROMPT, GREEDY).result).tokens, greedy);
        });
      } finally {
        await worker.stop();
      }
    });

    it("leave no server behind when they are killed", async function () {
      if (process.platform !== "linux") this.skip();
      const worker = await startWorker();
      const servers = childrenOf(worker.process.pid!);
      assert.equal(servers.length, 1);
      await worker.stop();
      await until(() => !servers.some(isAlive));
    });
  });

  describe("that are none are refused before anything is loaded", () => {
    const refused = (endpoint: string, code: "WORKER_UNREACHABLE" | "WORKER_MISMATCH", message: RegExp) =>
      assert.rejects(loadTiny({ workers: [endpoint] }), (error: { details: Record<string, unknown> }) => {
        coldstartError(code, message)(error);
        assert.equal(error.details["endpoint"], endpoint);
        return true;
      });

    it("nobody there", async () => {
      await refused(`127.0.0.1:${await freePorts()}`, "WORKER_UNREACHABLE", /ECONNREFUSED/);
      await refused("no-such-host.invalid:50052", "WORKER_UNREACHABLE", /no-such-host/);
    });

    const silent = () => undefined;
    for (const [name, onRpc, onFacts, code, message] of [
      ["somebody who says nothing", silent, undefined, "WORKER_UNREACHABLE", /did not answer within 5 s\./],
      ["a worker that is busy", silent, saysFacts({ busy: true }), "WORKER_UNREACHABLE", /serves another client/],
      [
        "another protocol version",
        (s) => s.write(helloAnswer(7, 1, 0)),
        undefined,
        "WORKER_MISMATCH",
        /version 7\.1\.0/,
      ],
      [
        "an HTTP server",
        (s) => s.end("HTTP/1.1 400 Bad Request\r\n\r\n"),
        undefined,
        "WORKER_MISMATCH",
        /does not answer/,
      ],
      ["one who hangs up", (s) => s.end(), undefined, "WORKER_MISMATCH", /closed the connection/],
      ["another release", silent, saysFacts({ llamaCpp: "0.4.0" }), "WORKER_MISMATCH", /with llama\.cpp 0\.4\.0/],
      ["another coldstart", silent, saysFacts({ coldstart: "9.9.9" }), "WORKER_MISMATCH", /coldstart 9\.9\.9/],
    ] satisfies [
      string,
      Parameters<typeof fakeServer>[0],
      Parameters<typeof fakeServer>[1],
      "WORKER_UNREACHABLE" | "WORKER_MISMATCH",
      RegExp,
    ][]) {
      it(name, async () => {
        const server = await fakeServer(onRpc, onFacts);
        await refused(server.endpoint, code, message);
        server.close();
      });
    }

    it("what is no endpoint", async () => {
      for (const endpoint of [
        "",
        "host",
        "host:",
        ":50052",
        "host:0",
        "host:65535",
        "[::1]:50052",
        "a b:1",
        "h:1x",
        7,
      ]) {
        await assert.rejects(
          loadTiny({ workers: [endpoint as string] }),
          coldstartError("INVALID_OPTION", /workers\[0\]/),
        );
      }
      assert.deepEqual(parseEndpoint("x", "my-host.lan:50052"), { host: "my-host.lan", port: 50_052 });
      await assert.rejects(loadTiny({ workers: "h:1" as never }), coldstartError("INVALID_OPTION", /workers/));
      await assert.rejects(loadTiny({ workers: ["h:1", "h:1"] }), coldstartError("INVALID_OPTION", /once/));
      const isolation = "none";
      await assert.rejects(loadTiny({ workers: ["h:1"], isolation }), coldstartError("INVALID_OPTION", /isolation/));
    });
  });

  describe("on the command line", () => {
    function coldstart(args: string[]): Promise<{ code: number; out: string; err: string }> {
      return new Promise((resolve) => {
        execFile(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], (error, out, err) => {
          resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err });
        });
      });
    }

    it("say what they serve, where, and that nobody is asked who they are", () => {
      const text = a.output();
      assert.match(text, /^Worker +coldstart \d+\.\d+\.\d+, llama\.cpp 0\.5\.0$/m);
      assert.match(text, new RegExp(`^Address +127\\.0\\.0\\.1, ports ${a.port} .* and ${a.port + 1} `, "m"));
      assert.match(text, /^Devices +CPU: .* GiB, 1 thread$/m);
      assert.match(text, /^Cache +none$/m);
      assert.match(text, /^No authentication/m);
    });

    it("are used by run", async () => {
      const args = ["run", TINY_STORIES, "-p", PROMPT, "-t", "0", "-n", "10", "-q"];
      const { out, err } = await coldstart([...args, "--workers", a.endpoint]);
      assert.equal(out, (await coldstart(args)).out, err);
    });

    it("refuse addresses that others can reach, unless they are told", async () => {
      for (const host of ["0.0.0.0", "10.1.2.3"]) {
        const { code, err } = await coldstart(["worker", "--listen", `${host}:50052`]);
        assert.equal(code, 2);
        assert.match(err, /can be reached from other machines.*no authentication.*--allow-remote.*INVALID_OPTION/);
      }
      const port = await freePorts();
      const child = execFile(process.execPath, [
        path.join(root, "dist/cli/main.js"),
        ...["worker", "--listen", `0.0.0.0:${port}`, "--allow-remote", "--no-cache"],
      ]);
      let out = "";
      for await (const text of child.stdout!) {
        out += text as string;
        if (out.includes("Ready")) break;
      }
      child.kill();
      assert.match(out, /No authentication, no encryption: whoever reaches these ports/);
    });

    it("refuse what cannot be", async () => {
      for (const [args, message] of [
        [["--listen", a.endpoint], /port is in use/],
        [["--listen", "nonsense"], /--listen/],
        [["--listen", `127.0.0.1:${await freePorts()}`, "--devices", "CUDA7"], /no device CUDA7/],
        [["--threads", "0"], /--threads/],
        [["--cache", path.join(TINY_STORIES, "x")], /cache folder/],
      ] satisfies [string[], RegExp][]) {
        const { code, err } = await coldstart(["worker", ...args]);
        assert.equal(code, 2, err);
        assert.match(err, message);
      }
    });
  });
});
