// The build's own scripts: the pinned source and the check of the toolchain.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { ensureLlamaCpp, installedRelease, readPin, type Pin } from "../scripts/llama-cpp.mjs";
import { missingTools } from "../scripts/toolchain.mjs";
import { root } from "./support/models.js";

describe("scripts/llama-cpp", () => {
  let folder: string;
  let directory: string;
  /** Empty, but where a test puts something there. */
  let patchFolder: string;
  const log = () => undefined;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    directory = path.join(folder, "llama.cpp");
    patchFolder = mkdtempSync(path.join(os.tmpdir(), "coldstart-patches-"));
  });
  afterEach(() => {
    for (const made of [folder, patchFolder]) rmSync(made, { recursive: true, force: true });
  });

  /** A git repository with one file, tagged. */
  function repository(tag: string): string {
    const path_ = path.join(folder, "upstream");
    mkdirSync(path_);
    const git = (...args: string[]) =>
      execFileSync("git", ["-C", path_, "-c", "user.name=t", "-c", "user.email=t@t", ...args], { stdio: "pipe" });
    git("init", "--quiet");
    writeFileSync(path.join(path_, "file"), tag);
    git("add", ".");
    git("commit", "--quiet", "-m", "first");
    git("tag", tag);
    return path_;
  }

  it("has put the pinned release where the build takes it", () => {
    assert.equal(installedRelease(path.join(root, "deps", "llama.cpp")), readPin().release);
  });

  it("does nothing when the release is there", async () => {
    assert.equal(await ensureLlamaCpp({ log: () => assert.fail("nothing to say") }), "present");
  });

  it("clones the tag from a git remote on request, and replaces another release", async () => {
    const upstream = repository("v9.9.9");
    const pin: Pin = { ...readPin(), release: "v9.9.9" };
    assert.equal(
      await ensureLlamaCpp({ pin, directory, patchFolder, repository: `file://${upstream}`, log }),
      "fetched",
    );
    assert.equal(installedRelease(directory), "v9.9.9");
    execFileSync("git", ["-C", directory, "tag", "-d", "v9.9.9"], { stdio: "pipe" });
    assert.equal(installedRelease(directory), undefined);
    assert.equal(
      await ensureLlamaCpp({ pin, directory, patchFolder, repository: `file://${upstream}`, log }),
      "fetched",
    );
    assert.deepEqual(readdirSync(folder).sort(), ["llama.cpp", "upstream"], "no leftovers");
  });

  it("applies the patches, again when they change, and loses no edits", async () => {
    const patch = (line: string) =>
      writeFileSync(
        path.join(patchFolder, "0001.patch"),
        `Why.\n---\n--- a/file\n+++ b/file\n@@ -1 +1 @@\n-v9.9.9\n\\ No newline at end of file\n+${line}\n`,
      );
    const upstream = repository("v9.9.9");
    const pin: Pin = { ...readPin(), release: "v9.9.9" };
    const ensure = () => ensureLlamaCpp({ pin, directory, patchFolder, repository: `file://${upstream}`, log });
    const content = () => readFileSync(path.join(directory, "file"), "utf8");

    patch("patched");
    assert.equal(await ensure(), "fetched");
    assert.equal(content(), "patched\n");
    assert.equal(await ensure(), "present");
    patch("patched otherwise");
    assert.equal(await ensure(), "fetched");
    assert.equal(content(), "patched otherwise\n");

    writeFileSync(path.join(directory, "file"), "edited");
    assert.equal(await ensure(), "present", "the release and the patches are as wanted");
    patch("patched a third time");
    await assert.rejects(ensure(), /has changes of yours/);
    assert.equal(content(), "edited");
  });

  it("keeps what is there when the new one cannot be had", async () => {
    const upstream = repository("v9.9.9");
    await ensureLlamaCpp({
      pin: { ...readPin(), release: "v9.9.9" },
      directory,
      patchFolder,
      repository: `file://${upstream}`,
      log,
    });
    const pin: Pin = { ...readPin(), release: "v8.8.8" };
    await assert.rejects(ensureLlamaCpp({ pin, directory, patchFolder, repository: `file://${upstream}`, log }));
    assert.equal(installedRelease(directory), "v9.9.9");
    assert.equal(readFileSync(path.join(directory, "file"), "utf8"), "v9.9.9");
  });

  it("refuses a package with another integrity, and deletes nothing", async () => {
    // The registry's smallest well-known package in the place of ours.
    const pin: Pin = { ...readPin(), package: "node-addon-api", version: "8.9.2" };
    mkdirSync(path.join(directory, ".git"), { recursive: true });
    writeFileSync(path.join(directory, "mine.txt"), "precious");
    await assert.rejects(
      ensureLlamaCpp({ pin, directory, repository: undefined, log }),
      /pinned integrity: expected sha512-bltI.*, got sha512-/,
    );
    assert.equal(readFileSync(path.join(directory, "mine.txt"), "utf8"), "precious");
    assert.deepEqual(readdirSync(folder), ["llama.cpp"]);
  });

  it("does not touch a folder that is no checkout", async () => {
    mkdirSync(directory);
    writeFileSync(path.join(directory, "mine.txt"), "precious");
    await assert.rejects(ensureLlamaCpp({ directory, log }), /is not a git checkout/);
    assert.ok(existsSync(path.join(directory, "mine.txt")));
  });
});

describe("scripts/toolchain", () => {
  const has =
    (...tools: string[]) =>
    (command: string) =>
      tools.includes(command);

  it("is content with CMake and any C++ compiler", () => {
    for (const compiler of ["c++", "g++", "clang++"]) {
      assert.deepEqual(missingTools({ platform: "linux", has: has("cmake", "make", compiler), env: {} }), []);
    }
    assert.deepEqual(missingTools({ platform: "linux", has: has("cmake", "ninja", "icpx"), env: { CXX: "icpx" } }), []);
    assert.deepEqual(missingTools({ platform: "win32", has: has("cmake"), env: {} }), []);
  });

  it("says in one sentence each what is missing, with the remedy for Debian, macOS and Windows", () => {
    const missing = missingTools({ platform: "linux", has: has(), env: {} });
    assert.equal(missing.length, 3);
    assert.match(
      missing[0]!,
      /CMake was not found.*apt-get install cmake.*brew install cmake.*winget install Kitware\.CMake/,
    );
    assert.match(
      missing[1]!,
      /no C\+\+ compiler was found.*apt-get install g\+\+.*xcode-select --install.*winget install/,
    );
    assert.match(missing[2]!, /neither make nor ninja was found.*apt-get install make/);
  });
});
