import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { native } from "../../lib/native.js";
import { root } from "../support/models.js";
import { testing } from "./testing-addon.js";

describe("reading ahead", () => {
  const MIB = 2 ** 20;
  let folder: string;
  let files: string[];

  before(function () {
    if (process.platform !== "linux") this.skip(); // Others do not say what is in the page cache.
    // On a disk: a folder for temporary files may be in memory.
    folder = mkdtempSync(path.join(root, "build", "prefetch-"));
    files = [96, 1, 33].map((size, i) => {
      const file = path.join(folder, `part-${i}`);
      writeFileSync(file, Buffer.alloc(size * MIB, i + 1));
      return file;
    });
  });
  after(() => {
    if (folder) rmSync(folder, { recursive: true });
  });
  beforeEach(async function () {
    for (const file of files) if ((await native().forgetFile(file)) !== 0) this.skip();
  });

  it("brings all files into the page cache", () => {
    assert.deepEqual(testing.prefetch(files, false), { finished: true, cached: [1, 1, 1] });
    // And once more, when there is nothing to do.
    assert.deepEqual(testing.prefetch(files, false), { finished: true, cached: [1, 1, 1] });
  });

  it("ends early when it is given up", () => {
    const { finished, cached } = testing.prefetch(files, true);
    assert.equal(finished, false);
    assert.ok(cached.some((share) => share! < 1));
  });

  it("leaves out what cannot be read", () => {
    assert.deepEqual(testing.prefetch([path.join(folder, "missing"), files[2]!], false).cached, [undefined, 1]);
  });
});

describe("what llama.cpp does instead", () => {
  const source = readFileSync(path.join(root, "deps/llama.cpp/src/llama-mmap.cpp"), "utf8");

  it("of direct reads is known beforehand, where the file system refuses them", function () {
    if (process.platform !== "linux") this.skip();
    assert.equal(testing.whyNotDirect([path.join(root, "package.json")]), "");
    assert.match(testing.whyNotDirect([path.join(root, "package.json"), "/proc/cpuinfo"]), /Invalid argument/);
  });

  it("is recognized by what its log says", () => {
    const cases: [log: string, note: RegExp][] = [
      ["Falling back to buffered I", /loadMode is direct, and the device refused to read so: m\.gguf was read through/],
      ["Falling back to buffered IO due to", /loadMode is direct, and the device refused/],
      ["failed to mlock", /mlock is true, and the system did not lock all weights of m\.gguf/],
      ["failed to VirtualLock", /mlock is true/],
      ["mlock not supported", /mlock is true/],
    ];
    for (const [log, note] of cases) {
      assert.ok(source.includes(log), `${log} is no message of this llama.cpp any more`);
      const notes = testing.fallbacks("m.gguf", ["warning: something else", `warning: ${log} …`]);
      assert.equal(notes.length, 1);
      assert.match(notes[0]!, note);
    }
    assert.deepEqual(testing.fallbacks("m.gguf", ["warning: something else"]), []);
  });
});
