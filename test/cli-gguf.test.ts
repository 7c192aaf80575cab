// `coldstart split`, `merge`, `edit`, `verify`, and `inspect` of a URL, as built.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { inspectGguf } from "../lib/index.js";
import { serveFile } from "./support/file-server.js";
import { writeGguf } from "./support/gguf-writer.js";
import { root, TINY_STORIES } from "./support/models.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const main = path.join(root, "dist/cli/main.js");

describe("the command line for GGUF files", () => {
  const folder = temporaryFolder();
  const coldstart = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { encoding: "utf8" });
  const succeed = (...args: string[]) => {
    const { status, stdout, stderr } = coldstart(...args);
    assert.equal(status, 0, stderr);
    return stdout;
  };

  it("splits and merges", () => {
    const table = succeed("split", TINY_STORIES, folder.path("part"), "--max-size", "1M", "--metadata-first");
    assert.match(table, /part-00001-of-00005\.gguf +0 tensors +14\.5 KiB\n.*part-00002-of-00005\.gguf +9 tensors/);
    const first = folder.path("part-00001-of-00005.gguf");
    assert.match(succeed("merge", first, folder.path("m.gguf")), /m\.gguf: 39 tensors, 3\.6 MiB/);
    assert.ok(readFileSync(folder.path("m.gguf")).equals(readFileSync(TINY_STORIES)));
    const planned = JSON.parse(
      succeed("split", TINY_STORIES, folder.path("x"), "--max-tensors", "20", "--dry-run", "--json"),
    ) as { files: { tensors: number }[] };
    assert.deepEqual(planned.files.map(({ tensors }) => tensors), [20, 19]); // prettier-ignore
    assert.ok(!existsSync(folder.path("x-00001-of-00002.gguf")));
    assert.equal(succeed("split", TINY_STORIES, folder.path("x"), "--quiet"), "");
    assert.equal(coldstart("split", TINY_STORIES, folder.path("x"), "--max-size", "lots").status, 2);
  });

  it("edits, with values of the types that keys have, and of files", async () => {
    const file = folder.path("model.gguf");
    copyFileSync(TINY_STORIES, file);
    writeFileSync(folder.path("template.jinja"), "{{ x }}\n");
    const anew = succeed(
      "edit", file, "--set", "general.name=42", "--set", "llama.rope.freq_base=500000", "--remove", "general.license",
      "--rename", "general.description=general.summary", "--set", "general.summary=a=b",
      "--add", `tokenizer.chat_template=@${folder.path("template.jinja")}`, "--add", "at=@@x",
      "--add", 'general.tags:string[]=["a", "b"]', "--add", "x.small:uint8=7", "--add", "x.whole=7", "--add", "x.half=0.5",
      "--add", "x.yes=true", "--add", "x.list=[1, 2]", "--add", "x.huge:uint64=18446744073709551615",
      "--add", "x:y=1.5.2",
    ); // prettier-ignore
    assert.match(anew, /model\.gguf: written anew, 3\.6 MiB/);
    const { metadata } = await inspectGguf(file);
    assert.equal(metadata["general.name"], "42");
    assert.equal(metadata["llama.rope.freq_base"], 500_000);
    assert.equal(metadata["general.license"], undefined);
    assert.equal(metadata["general.summary"], "a=b");
    assert.equal(metadata["tokenizer.chat_template"], "{{ x }}\n");
    assert.equal(metadata["at"], "@x");
    assert.deepEqual(metadata["general.tags"], { elementType: "string", length: 2, values: ["a", "b"] });
    assert.equal(metadata["x.small"], 7);
    assert.equal(metadata["x.half"], 0.5);
    assert.equal(metadata["x.yes"], true);
    assert.deepEqual(metadata["x.list"], { elementType: "uint32", length: 2, values: [1, 2] });
    assert.equal(metadata["x.huge"], 2n ** 64n - 1n);
    assert.equal(metadata["x:y"], "1.5.2");
    assert.match(succeed("edit", file, "--set", "general.name=43"), /changed in place/);
  });

  it("says what it will not edit, and exits with 2", () => {
    const file = folder.path("model.gguf");
    copyFileSync(TINY_STORIES, file);
    const cases: [args: string[], message: RegExp][] = [
      [["--set", "genral.name=x"], /Did you mean general\.name\?/],
      [["--set", "llama.block_count=many"], /must be a number \(uint32\)/],
      [["--set", "tokenizer.ggml.tokens=a"], /must be a JSON array/],
      [["--set", "general.name"], /must be key=value/],
      [["--add", "x=@/nowhere"], /a file that can be read/],
      [["--remove", "general.architecture"], /use force/],
      [[], /something to rename, remove, set or add/],
    ];
    for (const [args, message] of cases) {
      const { status, stderr } = coldstart("edit", file, ...args);
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
    }
    succeed("edit", file, "--remove", "general.architecture", "--force", "--output", folder.path("other.gguf"));
    assert.ok(readFileSync(file).equals(readFileSync(TINY_STORIES)));
  });

  it("verifies, as sha256sum does and more", function () {
    const file = folder.path("model.gguf");
    copyFileSync(TINY_STORIES, file);
    const { status, stdout, stderr } = coldstart("verify", file);
    assert.equal(status, 0);
    assert.equal(stderr, "39 tensors, 3.6 MiB: nothing is wrong.\n");
    writeFileSync(folder.path("SUMS"), stdout);
    writeFileSync(folder.path("sums.json"), succeed("verify", file, "--json"));
    if (process.platform === "linux") execFileSync("sha256sum", ["--check", folder.path("SUMS")], { stdio: "pipe" });
    for (const manifest of ["SUMS", "sums.json"])
      assert.equal(succeed("verify", file, "--quiet", "--manifest", folder.path(manifest)), "");

    const bytes = readFileSync(file);
    bytes.writeFloatLE(NaN, bytes.length - 4);
    writeFileSync(file, bytes);
    const damaged = coldstart("verify", file, "--manifest", folder.path("SUMS"));
    assert.equal(damaged.status, 1);
    assert.match(
      damaged.stderr,
      /^The weight 49151 of the tensor .*\n.*model\.gguf has the SHA-256 .*\n.*: 2 problems\.\n$/,
    );
    const json = coldstart("verify", file, "--json");
    assert.equal(json.status, 1);
    assert.equal((JSON.parse(json.stdout) as { problems: unknown[] }).problems.length, 1);
    assert.equal(coldstart("verify", folder.path("none.gguf")).status, 1);
    assert.equal(coldstart("verify", file, "--manifest", TINY_STORIES).status, 2);
  });

  it("shows tensors by type, the largest share first", () => {
    const tensors = [
      { name: "a", type: 0, shape: [256] },
      { name: "b", type: 12, shape: [256, 64] },
      { name: "c", type: 12, shape: [256] },
    ];
    writeFileSync(folder.path("x.gguf"), writeGguf({ metadata: [], tensors }));
    assert.match(
      succeed("inspect", folder.path("x.gguf"), "--tensors"),
      /TYPE +TENSORS +SIZE +BITS PER WEIGHT +SHARE\n +q4_K +2 +9\.1 KiB +4\.50 +90\.1 %\n +f32 +1 +1\.0 KiB +32\.00 +9\.9 %\n\nTensors\n +NAME +TYPE +SHAPE +SIZE\n +a +f32 +256 +1\.0 KiB/,
    );
  });

  it("inspects a file on a server", async () => {
    await using server = await serveFile(readFileSync(TINY_STORIES));
    const { stdout } = await promisify(execFile)(process.execPath, [main, "inspect", server.url]);
    assert.equal(stdout, succeed("inspect", TINY_STORIES));
  });

  it("leaves nothing behind when it is interrupted", async function () {
    if (process.platform === "win32") return this.skip();
    const size = 64 * 2 ** 20;
    const tensors = [{ name: "a", type: 0, shape: [size] }];
    const sparse = folder.path("sparse.gguf");
    const header = writeGguf({ metadata: [], tensors: [{ ...tensors[0]!, data: new Uint8Array(0) }] });
    writeFileSync(sparse, header);
    const { truncateSync } = await import("node:fs");
    truncateSync(sparse, header.length + 4 * size);
    const child = execFile(process.execPath, [main, "split", sparse, folder.path("part")]);
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    while (!readdirSync(folder.path()).some((name) => name.endsWith(".partial")) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGINT");
    assert.equal(await ended, 130);
    assert.deepEqual(readdirSync(folder.path()), ["sparse.gguf"]);
  });
});
