import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { PROMPT, root, TINY_STORIES } from "./support/models.js";

/** Runs the built command with `args`, `input` on its standard input. */
function coldstart(args: string[], input = ""): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], (error, out, err) => {
      resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err });
    });
    child.stdin!.end(input);
  });
}

describe("the command line", () => {
  it("streams a story, with statistics at the end", async () => {
    const { code, out, err } = await coldstart(["run", TINY_STORIES, "-p", PROMPT, "-t", "0", "--threads", "1"]);
    assert.equal(code, 0, err);
    assert.ok(out.startsWith(PROMPT) && out.endsWith(".\n"));
    assert.match(
      err,
      /\[7 \+ \d+ tokens \(\d+ tokens\/s\); loaded in \d+ ms, first token [\d.]+ ms; finish: stop; seed \d+\]/,
    );
  });

  it("takes the prompt from standard input, and options", async () => {
    const args = [
      "run",
      TINY_STORIES,
      "--quiet",
      "-n",
      "8",
      "--seed",
      "5",
      "--top-k",
      "3",
      "--stop",
      "zzz",
      "--temperature",
      "1",
    ];
    const first = await coldstart(args, "One day,");
    assert.deepEqual(await coldstart(args, "One day,"), first);
    assert.match(first.out, /^One day,/);
    assert.equal(first.err, "");
  });

  it("prints events as JSON lines", async () => {
    const { out } = await coldstart(["run", TINY_STORIES, "-p", PROMPT, "-n", "10", "--json"]);
    const events = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; text: string; finishReason?: string });
    assert.equal(events.at(-1)!.type, "result");
    assert.equal(events.at(-1)!.finishReason, "length");
    assert.equal(
      events
        .slice(0, -1)
        .map(({ text }) => text)
        .join(""),
      events.at(-1)!.text,
    );
  });

  it("follows a grammar from a file", async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const file = path.join(folder, "yes.gbnf");
    writeFileSync(file, 'root ::= " yes" | " no"');
    const { out } = await coldstart(["run", TINY_STORIES, "-p", PROMPT, "--grammar-file", file, "-q"]);
    assert.match(out, / (yes|no)\n$/);
    rmSync(folder, { recursive: true });
  });

  it("takes what says where a model goes, how it computes, and what happens at the end of the context", async () => {
    const plain = ["run", TINY_STORIES, "-p", PROMPT, "-q", "-t", "0", "-n", "20"];
    const first = await coldstart(plain);
    for (const flags of [
      ["--speculative", "lookup"],
      ["--speculative", `draft:${TINY_STORIES}`],
      ["--kv-type", "bf16", "--on-out-of-memory", "retry", "--strict", "--split-mode", "layer", "--gpu-layers", "0"],
    ]) {
      const { code, out, err } = await coldstart([...plain, ...flags]);
      assert.equal(code, 0, err);
      if (flags[0] === "--speculative") assert.equal(out, first.out, flags.join(" "));
    }
    const penalized = await coldstart([...plain, "--frequency-penalty", "5", "--presence-penalty", "5"]);
    assert.notEqual(penalized.out, first.out);
    const { code, out } = await coldstart([...plain.slice(0, -1), "300", "--json", "--overflow", "stop", "-c", "16"]);
    assert.equal(code, 0);
    assert.match(out, /"finishReason":"context"/);
    const plan = await coldstart(["plan", TINY_STORIES, "--kv-type", "bf16", "--speculative", "lookup", "--json"]);
    assert.equal(plan.code, 0, plan.err);
  });

  it("says in one line that its output cannot be written", function () {
    if (process.platform !== "linux") this.skip(); // /dev/full is a disk that is full.
    for (const args of [["run", TINY_STORIES, "-q", "-p", PROMPT], ["devices"], ["--help"]]) {
      const full = openSync("/dev/full", "w");
      const { status, stderr } = spawnSync(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], {
        stdio: ["ignore", full, "pipe"],
        encoding: "utf8",
      });
      closeSync(full);
      assert.equal(status, 1);
      assert.match(stderr, /^coldstart: Standard output cannot be written: ENOSPC.*\n$/);
    }
  });

  it("inspects a file", async () => {
    const { code, out } = await coldstart(["inspect", TINY_STORIES, "--tensors"]);
    assert.equal(code, 0);
    for (const expected of [
      /Parameters +951\.42 K/,
      /llama\.block_count +4/,
      /f32 +39 +3\.6 MiB +32\.00 +100\.0 %/,
      /token_embd\.weight +f32 +128 x 640/,
    ]) {
      assert.match(out, expected);
    }
    const { out: json } = await coldstart(["inspect", TINY_STORIES, "--json"]);
    const info = JSON.parse(json) as { metadata: Record<string, { values: string[] }> };
    assert.equal(info.metadata["tokenizer.ggml.tokens"]!.values.length, 640);
  });

  it("lists devices", async () => {
    assert.match((await coldstart(["devices"])).out, /CPU +CPU +cpu +[\d.]+ GiB/);
    const { devices } = JSON.parse((await coldstart(["devices", "--json"])).out) as { devices: { type: string }[] };
    assert.ok(devices.some(({ type }) => type === "cpu"));
  });

  it("has help for every command", async () => {
    assert.match((await coldstart(["--help"])).out, /devices[\s\S]*doctor[\s\S]*inspect[\s\S]*run[\s\S]*Exit codes/);
    for (const command of ["run", "plan", "inspect", "backends", "devices", "doctor", "worker"]) {
      const { code, out } = await coldstart([command, "--help"]);
      assert.equal(code, 0);
      assert.match(out, new RegExp(`^Usage: coldstart ${command}`));
    }
    assert.match((await coldstart(["--version"])).out, /^\d+\.\d+\.\d+/);
  });

  const failures: [name: string, args: string[], code: number, message: RegExp][] = [
    [
      "a missing file",
      ["run", "nothing.gguf", "-p", "x"],
      1,
      /^coldstart: There is no file at nothing\.gguf.*\[MODEL_NOT_FOUND\]\n$/,
    ],
    ["a prompt that does not fit", ["run", TINY_STORIES, "-p", "x", "-n", "300"], 1, /\[CONTEXT_OVERFLOW\]/],
    ["a value out of range", ["run", TINY_STORIES, "-p", "x", "--top-p", "2"], 2, /topP is 2.*\[INVALID_OPTION\]/],
    ["a word for a number", ["run", TINY_STORIES, "--top-k", "many"], 2, /not a number/],
    ["an unknown option", ["run", TINY_STORIES, "--tempreature", "1"], 2, /unknown option.*\n.*--temperature/],
    ["an unknown command", ["walk"], 2, /unknown command/],
    ["a missing argument", ["inspect"], 2, /missing required argument/],
    ["an unknown option of a command of a command", ["bench", "load", "x", "--fast"], 2, /unknown option/],
    ["a kind of guesses that there is not", ["run", "x", "--speculative", "draft:"], 2, /lookup, mtp, or draft:<path/],
    ["an empty prompt", ["run", TINY_STORIES], 2, /prompt is ""/],
  ];
  for (const [name, args, code, message] of failures) {
    it(`exits with ${code} on ${name}`, async () => {
      const result = await coldstart(args);
      assert.equal(result.code, code);
      assert.match(result.err, message);
      assert.doesNotMatch(result.err, /\n {4}at /, "no stack trace");
    });
  }

  it("keeps the text and exits with 130 when it is interrupted", async function () {
    if (process.platform === "win32") this.skip();
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const grammar = path.join(folder, "endless.gbnf");
    writeFileSync(grammar, 'root ::= " the" root');
    const args = [
      path.join(root, "dist/cli/main.js"),
      "run",
      TINY_STORIES,
      "-p",
      PROMPT,
      "-c",
      "50000",
      "--grammar-file",
      grammar,
    ];
    const { code, out } = await new Promise<{ code: unknown; out: string }>((resolve) => {
      let out = "";
      const child = execFile(process.execPath, args);
      child.stdout!.on("data", (data: string) => (out += data));
      child.stdout!.once("data", () => child.kill("SIGINT"));
      child.on("close", (code) => resolve({ code, out }));
    });
    rmSync(folder, { recursive: true });
    assert.equal(code, 130);
    // The last word may be cut between its tokens.
    assert.match(out, /^Once upon a time, there was( the)*( t?h?)?\n$/);
  });

  it("measures loading in each mode", async () => {
    const args = ["bench", "load", TINY_STORIES, "--rounds", "1", "--modes", "auto,mmap,copy+prefetch,direct"];
    const { code, out, err } = await coldstart([...args, "--threads", "1", "--json"]);
    assert.equal(code, 0, err);
    const report = JSON.parse(out) as Record<string, number> & { rows: Record<string, number | string>[] };
    assert.equal(report["bytes"], statSync(TINY_STORIES).size);
    assert.equal(report["files"], 1);
    assert.deepEqual(
      report.rows.map(({ mode, cache }) => `${mode} ${cache}`),
      ["auto", "mmap", "copy+prefetch", "direct"].flatMap((mode) => [`${mode} cold`, `${mode} warm`]),
    );
    for (const row of report.rows) {
      for (const name of ["loadMs", "firstTokenMs", "bytesPerSecond", "rssBytes", "peakRssBytes"])
        assert.ok(Number.isFinite(row[name]) && Number(row[name]) > 0, name);
      assert.ok(Number(row["firstTokenMs"]) > Number(row["loadMs"]));
      assert.equal("diskShare" in row, row["cache"] === "cold" && report["diskBytesPerSecond"] !== undefined);
    }
    const table = await coldstart([...args.slice(0, 5), "--modes", "copy"]);
    assert.match(table.out, /^MODE +CACHE +LOADED +FIRST TOKEN +GB\/S +OF DISK +RSS GB +PEAK GB$/m);
    assert.match(table.out, /^copy +warm +\d+ ms/m);
  });

  it("refuses a load mode to measure that there is not", async () => {
    const { code, err } = await coldstart(["bench", "load", TINY_STORIES, "--modes", "copy+fast"]);
    assert.equal(code, 2);
    assert.match(err, /modes is "copy\+fast"/);
  });
});
