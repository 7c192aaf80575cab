// Models of a hub, which does what it should not.

import assert from "node:assert/strict";
import { execFile, fork } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { loadModel, pullModel, type PullOptions } from "../../lib/index.js";
import { findProjector } from "../../lib/mmproj.js";
import { coldstartError } from "../support/errors.js";
import { COMMIT, gitHash, serveHub, type HubOptions } from "../support/hub-server.js";
import { root, TINY_STORIES } from "../support/models.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const REPO = "owner/stories-GGUF";
const SPEC = `hf:${REPO}`;
/** Of several pieces. */
const BIG = randomBytes(40 * 2 ** 20 + 123);
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

describe("pullModel", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  const options = (endpoint: string, more: PullOptions = {}): PullOptions => ({
    endpoint,
    cache: folder.path("hub"),
    token: "hf_secret",
    ...more,
  });
  const repoFolder = () => folder.path("hub", "models--owner--stories-GGUF");
  const hubOf = (more: Partial<HubOptions> = {}) => serveHub({ repo: REPO, files: { "big.gguf": BIG }, ...more });

  it("fetches a model once, into the cache that Hugging Face's tools have", async () => {
    await using hub = await serveHub({ repo: REPO, files: { "tiny-Q4_0.gguf": readFileSync(TINY_STORIES) } });
    const seen: number[] = [];
    const pulled = await pullModel(SPEC, options(hub.endpoint, { onProgress: ({ bytes }) => seen.push(bytes) }));
    const blob = sha256(readFileSync(TINY_STORIES));
    assert.equal(pulled.commit, COMMIT);
    assert.ok(pulled.path.endsWith(`/snapshots/${COMMIT}/tiny-Q4_0.gguf`));
    assert.ok(lstatSync(pulled.path).isSymbolicLink());
    assert.ok(existsSync(path.join(repoFolder(), "blobs", blob)));
    assert.equal(readFileSync(path.join(repoFolder(), "refs", "main"), "utf8"), COMMIT);
    assert.equal(seen.at(-1), pulled.bytes);
    assert.ok(hub.requests.every(({ authorization }) => authorization === "Bearer hf_secret"));
    assert.deepEqual(readdirSync(path.join(repoFolder(), "blobs")), [blob]);
    const before = hub.requests.length;
    assert.deepEqual(await pullModel(SPEC, options(hub.endpoint)), pulled);
    assert.equal(hub.requests.length, before + 1);
    // Offline it is there, too.
    assert.equal((await pullModel(SPEC, options("http://127.0.0.1:1", { offline: true }))).path, pulled.path);
    await assert.rejects(
      pullModel("hf:owner/other", options(hub.endpoint, { offline: true })),
      coldstartError("MODEL_NOT_FOUND", /not fetched before.*offline/),
    );
  });

  it("fetches the projector that belongs to it, when that is asked for", async () => {
    const files = {
      "x-Q4_0.gguf": readFileSync(TINY_STORIES),
      "mmproj-x-BF16.gguf": randomBytes(10),
      "mmproj-x-F16.gguf": randomBytes(11),
      "other/mmproj-x-F16.gguf": randomBytes(12),
    };
    await using hub = await serveHub({ repo: REPO, files });
    const names = (pulled: { files: string[] }) => pulled.files.map((file) => path.basename(file));
    assert.deepEqual(names(await pullModel(SPEC, options(hub.endpoint))), ["x-Q4_0.gguf"]);
    const pulled = await pullModel(SPEC, options(hub.endpoint, { mmproj: true }));
    assert.deepEqual(names(pulled), ["x-Q4_0.gguf", "mmproj-x-F16.gguf"]);
    assert.equal(path.basename(pulled.path), "x-Q4_0.gguf");
    assert.equal(await findProjector(pulled.path), pulled.files[1]);
    const offline = await pullModel(SPEC, options("http://127.0.0.1:1", { offline: true, mmproj: true }));
    assert.deepEqual(offline.files, pulled.files);
  });

  it("is what loadModel() does with such a name", async () => {
    await using hub = await serveHub({ repo: REPO, files: { "tiny.gguf": readFileSync(TINY_STORIES) } });
    const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: folder.path("hub") };
    const before = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]));
    Object.assign(process.env, env);
    try {
      await assert.rejects(loadModel(SPEC, { threads: -1 }), coldstartError("INVALID_OPTION"));
      assert.equal(hub.requests.length, 0);
      const model = await loadModel(SPEC, { threads: 1 });
      assert.ok((await model.generate("One day,", { maxTokens: 4 }).text()).length > 0);
      await model.dispose();
    } finally {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) Reflect.deleteProperty(process.env, name);
        else process.env[name] = value;
      }
    }
  });

  it("fetches pieces at the same time, and checkpoints whole", async () => {
    const files = {
      "config.json": Buffer.from("{}"),
      "model.safetensors": BIG,
      "tokenizer.json": Buffer.from("[]"),
      "a/x.bin": BIG,
    };
    await using hub = await hubOf({ files, small: ["config.json", "tokenizer.json"] });
    const { path: pulled, files: fetched, bytes } = await pullModel(SPEC, options(hub.endpoint));
    assert.ok(pulled.endsWith(COMMIT));
    assert.equal(fetched.length, 3);
    assert.equal(bytes, BIG.length + 4);
    assert.deepEqual(readFileSync(path.join(pulled, "model.safetensors")), BIG);
    assert.ok(existsSync(path.join(repoFolder(), "blobs", gitHash(files["config.json"]))));
    const ranges = hub.requests.filter(({ path: of }) => of.endsWith("model.safetensors")).map(({ range }) => range);
    assert.equal(new Set(ranges).size, 3);
  });

  it("takes all at once from a server without ranges", async () => {
    await using hub = await hubOf({ ranges: false });
    const seen: number[] = [];
    const { path: pulled } = await pullModel(
      SPEC,
      options(hub.endpoint, { onProgress: ({ bytes }) => seen.push(bytes) }),
    );
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.equal(seen.at(-1), BIG.length);
    assert.equal(hub.requests.length, 2);
  });

  it("goes on after connections that end, and after servers that are busy", async () => {
    let faults = 0;
    await using hub = await hubOf({
      intercept: ({ range }, response, count) => {
        if (count === 1) {
          response.writeHead(503, { "retry-after": "0" }).end();
          return ++faults > 0;
        }
        if (count !== 0 && count !== 3) return false;
        // A part of what was promised.
        const [, from = "0", to = "0"] = /(\d+)-(\d+)/.exec(range ?? "") ?? [];
        const part = BIG.subarray(Number(from), Number(from) + 300_000);
        response.writeHead(206, { "content-range": `bytes ${from}-${to}/${BIG.length}` });
        response.write(part, () => response.destroy());
        return ++faults > 0;
      },
    });
    const { path: pulled } = await pullModel(SPEC, options(hub.endpoint));
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.equal(faults, 3);
    // It went on where it was.
    assert.ok(hub.requests.some(({ range }) => /^bytes=300000-|^bytes=[1-9]\d*[1-9]\d*-/.test(range ?? "")));
  });

  it("keeps what it has when it is aborted, and goes on from there", async () => {
    const abort = new AbortController();
    {
      await using hub = await hubOf();
      const stopped = pullModel(
        SPEC,
        options(hub.endpoint, {
          signal: abort.signal,
          connections: 1,
          onProgress: ({ bytes }) => {
            if (bytes > 20 * 2 ** 20) abort.abort();
          },
        }),
      );
      await assert.rejects(stopped, coldstartError("ABORTED"));
    }
    assert.deepEqual(
      readdirSync(path.join(repoFolder(), "blobs"))
        .map((name) => name.replace(sha256(BIG), ""))
        .sort(),
      [".partial", ".partial.json"],
    );
    assert.ok(!existsSync(path.join(repoFolder(), "snapshots")));
    await using hub = await hubOf();
    const seen: number[] = [];
    const { path: pulled } = await pullModel(
      SPEC,
      options(hub.endpoint, { onProgress: ({ bytes }) => seen.push(bytes) }),
    );
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.ok((seen[0] ?? 0) >= 2 ** 24);
    assert.equal(seen.at(-1), BIG.length);
    const ranges = hub.requests.map(({ range }) => range).filter((range) => range !== undefined);
    assert.ok(!ranges.some((range) => range.startsWith("bytes=0-")), ranges.join(", "));
  });

  it("refuses what is not what it should be", async () => {
    const cases: [name: string, Partial<HubOptions>, RegExp][] = [
      [
        "wrong bytes",
        {
          intercept: ({ range }, response) => {
            const [, from = "0", to = "0"] = /(\d+)-(\d+)/.exec(range ?? "") ?? [];
            response.writeHead(206, { "content-range": `bytes ${from}-${to}/${BIG.length}` });
            response.end(Buffer.alloc(Number(to) - Number(from) + 1));
            return true;
          },
        },
        /checksum.*removed/,
      ],
      [
        "another length",
        {
          listing: (listing) => ({
            ...listing,
            siblings: listing.siblings.map((one) => ({ ...one, lfs: { sha256: sha256(BIG), size: 1000 } })),
          }),
        },
        /server has \d+ bytes, and the repository says 1000/,
      ],
      [
        "more than was asked for",
        {
          intercept: (_, response) => {
            response.writeHead(206, { "content-range": `bytes 0-16777215/${BIG.length}` });
            response.end(BIG);
            return true;
          },
        },
        /more than it was asked for/,
      ],
      ["no listing", { listing: () => ({ error: "none" }) }, /none of a hub's/],
    ];
    for (const [name, fault, message] of cases) {
      await using hub = await hubOf(fault);
      await assert.rejects(pullModel(SPEC, options(hub.endpoint)), coldstartError("DOWNLOAD_FAILED", message), name);
      assert.ok(!existsSync(path.join(repoFolder(), "snapshots")), name);
    }
  });

  it("says what a server refuses", async () => {
    for (const [status, code, message] of [
      [401, "DOWNLOAD_FAILED", /401.*HF_TOKEN/],
      [403, "DOWNLOAD_FAILED", /403.*gated/],
      [404, "MODEL_NOT_FOUND", /404/],
      [416, "DOWNLOAD_FAILED", /416/],
    ] as const) {
      await using hub = await hubOf({
        refuse: (_, response) => {
          response.writeHead(status).end();
          return true;
        },
      });
      await assert.rejects(pullModel(SPEC, options(hub.endpoint)), coldstartError(code, message));
      assert.equal(hub.requests.length, 1);
    }
    await assert.rejects(
      pullModel(SPEC, options("http://127.0.0.1:1")),
      coldstartError("DOWNLOAD_FAILED", /could not be fetched/),
    );
  });

  it("gives the token to its own host only", async () => {
    await using store = await serveHub({ repo: REPO, files: { "big.gguf": BIG } });
    await using hub = await hubOf({
      intercept: ({ path: of }, response) => {
        // "localhost" is another host than "127.0.0.1".
        response.writeHead(302, { location: `${store.endpoint.replace("127.0.0.1", "localhost")}${of}` }).end();
        return true;
      },
    });
    const { path: pulled } = await pullModel(SPEC, options(hub.endpoint));
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.ok(store.requests.length > 2);
    assert.ok(store.requests.every(({ authorization }) => authorization === undefined));
    assert.ok(store.requests.every(({ range }) => range !== undefined));
  });

  it("writes nothing outside of its cache, whatever a server calls its files", async () => {
    const names = ["../../evil.gguf", "/evil.gguf", "a\\..\\evil.gguf", "C:evil.gguf"];
    await using hub = await hubOf({
      listing: ({ sha, siblings }) => ({
        sha,
        siblings: [
          ...names.map((rfilename) => ({ ...siblings[0], rfilename })),
          { ...siblings[0], rfilename: "good.gguf" },
        ],
      }),
      files: { "good.gguf": BIG },
    });
    const { files } = await pullModel(SPEC, options(hub.endpoint));
    assert.equal(files.length, 1);
    assert.deepEqual(readdirSync(folder.path()), ["hub"]);
    for (const sha of ["../../x", "main"]) {
      await using bad = await hubOf({ listing: (listing) => ({ ...listing, sha }) });
      await assert.rejects(pullModel(SPEC, options(bad.endpoint)), coldstartError("DOWNLOAD_FAILED"));
    }
  });

  it("uses what was fetched before when the hub cannot be reached, and says so", async () => {
    {
      await using hub = await hubOf();
      await pullModel(SPEC, options(hub.endpoint));
    }
    const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
    const { path: pulled } = await pullModel(SPEC, options("http://127.0.0.1:1"));
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.match((await warned).message, /fetched before is used/);
  });

  it("fetches once when two processes ask at the same time", async () => {
    await using hub = await hubOf();
    const script = folder.path("pull.mjs");
    writeFileSync(
      script,
      `import { pullModel } from ${JSON.stringify(path.join(root, "dist/index.js"))};
       const { path } = await pullModel(${JSON.stringify(SPEC)}, ${JSON.stringify(options(hub.endpoint))});
       process.send(path);`,
    );
    const run = () =>
      new Promise<string>((resolve, reject) => {
        const child = fork(script);
        child.once("message", (message) => resolve(message as string));
        child.once("exit", (code) => reject(new Error(`exit code ${code}`)));
      });
    const [one, two] = await Promise.all([run(), run()]);
    assert.equal(one, two);
    assert.deepEqual(readFileSync(one), BIG);
    const ranges = hub.requests.map(({ range }) => range).filter((range) => range !== undefined);
    assert.equal(new Set(ranges).size, ranges.length);
  });

  it("takes over a lock that was left behind", async () => {
    await using hub = await hubOf();
    const lock = path.join(repoFolder(), "blobs", `${sha256(BIG)}.lock`);
    mkdirSync(path.dirname(lock), { recursive: true });
    writeFileSync(lock, "gone");
    utimesSync(lock, new Date(0), new Date(0));
    const { path: pulled } = await pullModel(SPEC, options(hub.endpoint));
    assert.deepEqual(readFileSync(pulled), BIG);
    assert.ok(!existsSync(lock));
  });

  it("is a command, and what other commands do with such a name", async () => {
    await using hub = await serveHub({ repo: REPO, files: { "tiny.gguf": readFileSync(TINY_STORIES) } });
    const run = promisify(execFile);
    const main = path.join(root, "dist/cli/main.js");
    const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: folder.path("hub") };
    const { stdout } = await run(process.execPath, [main, "pull", SPEC], { env });
    assert.deepEqual(readFileSync(stdout.trim()), readFileSync(TINY_STORIES));
    const json = await run(process.execPath, [main, "pull", SPEC, "--offline", "--json"], { env });
    assert.equal((JSON.parse(json.stdout) as { path: string }).path, stdout.trim());
    const story = await run(process.execPath, [main, "run", SPEC, "-p", "One day,", "-n", "4", "--quiet"], { env });
    assert.match(story.stdout, /^One day, /);
    const wrong = run(process.execPath, [main, "pull", `${SPEC}:Q2_K`], { env });
    await assert.rejects(wrong, /MODEL_NOT_FOUND|no model of Q2_K/);
  });

  it("says what is wrong with what is asked for", async () => {
    for (const [spec, given, message] of [
      ["owner/repo", {}, /hf:owner\/repo/],
      ["hf:owner", {}, /hf:owner\/repo/],
      [SPEC, { endpoint: "ftp://x" }, /endpoint/],
      [SPEC, { connections: 0 }, /connections/],
      [SPEC, { conections: 3 }, /connections/],
    ] as const)
      await assert.rejects(pullModel(spec, given as PullOptions), coldstartError("INVALID_OPTION", message));
  });
});
