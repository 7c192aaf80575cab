// Packs all that coldstart needs on a machine with an NVIDIA GPU and no network, into one archive. There its `run` builds,
// tests, measures and reports (scripts/gpu-kit-run.mjs).
//
//   node scripts/gpu-kit.mjs [--out FILE] [--prebuilt] [--build FOLDER]
//
//   --out FILE      default: build/coldstart-gpu-kit.tar.xz
//   --prebuilt      instead of llama.cpp's sources, what was compiled here: the addon and the tools (of --build), the plugin and
//                   the programs of native/cuda (of build/cuda). The machine then compiles nothing. Build for any CPU:
//                   node scripts/build.mjs --into FOLDER -D COLDSTART_NATIVE=OFF --tool llama-bench …
//   --build FOLDER  what scripts/build.mjs built into; default: build
//
// The machine needs a shell, tar, xz; without --prebuilt also CMake 3.18, a C++ compiler and the CUDA 13 toolkit.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { packedSourceMark, readPin } from "./llama-cpp.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    out: { type: "string", default: path.join(root, "build", "coldstart-gpu-kit.tar.xz") },
    prebuilt: { type: "boolean", default: false },
    build: { type: "string", default: path.join(root, "build") },
  },
});

/** What is run there: the tests and what builds and loads the addon. Their dependencies come with them. */
const PACKAGES = ["cmake-js", "commander", "cli-progress", "node-addon-api", "node-gyp-build", "tar", "mocha", "tsx", "fast-check", "@huggingface/gguf", "@huggingface/tokenizers"]; // prettier-ignore
/** Of llama.cpp: what its CMake builds of it here. */
const SOURCES = ["CMakeLists.txt", "LICENSE", "cmake", "common", "examples", "ggml", "include", "pocs", "src", "tools", "vendor"]; // prettier-ignore
/** Of tools/: pictures and web pages, which nothing compiles. */
const NOT_COMPILED = /\.(png|jpe?g|svg|gif|mp3|wav|ico|woff2?|ttf|gguf|html|gz)$/;

const kit = fs.mkdtempSync(path.join(path.dirname(path.resolve(options.out)), ".gpu-kit-"));
try {
  pack(path.join(kit, "coldstart-gpu-kit"));
} finally {
  fs.rmSync(kit, { recursive: true, force: true });
}

function pack(top) {
  const repository = path.join(top, "coldstart");
  for (const file of git("ls-files", "-z").split("\0").filter(Boolean)) {
    if (fs.existsSync(path.join(root, file))) copy(path.join(root, file), path.join(repository, file));
  }
  copy(path.join(root, "dist"), path.join(repository, "dist"));
  for (const name of closure(PACKAGES)) copy(packageFolder(name), path.join(repository, "node_modules", name));

  if (options.prebuilt) addBuilt(repository);
  else addSources(path.join(repository, "deps", "llama.cpp"));

  copy(process.execPath, path.join(top, "node", "bin", "node"));
  const models = process.env["COLDSTART_TEST_MODELS"] ?? path.join(root, "..", "shared", "models");
  if (fs.existsSync(models)) copy(models, path.join(top, "shared", "models"));
  strip(path.join(top, "node", "bin", "node"));
  fs.writeFileSync(
    path.join(top, "run"),
    '#!/bin/sh\n# Builds, tests, measures, reports: coldstart/scripts/gpu-kit-run.mjs says how.\ncd "$(dirname "$0")/coldstart" && PATH="$PWD/../node/bin:$PATH" exec node scripts/gpu-kit-run.mjs "$@"\n',
    { mode: 0o755 },
  );

  // A dictionary as large as two plugins, whose kernels are the same.
  execFileSync("tar", [
    "-C",
    path.dirname(top),
    "-I",
    "xz -T1 --lzma2=preset=5,dict=192MiB",
    "-cf",
    path.resolve(options.out),
    path.basename(top),
  ]);
  const size = fs.statSync(options.out).size;
  console.log(`${options.out}: ${(size / 2 ** 20).toFixed(1)} MiB, llama.cpp ${readPin().release}`);
}

function addSources(to) {
  const llama = path.join(root, "deps", "llama.cpp");
  for (const name of SOURCES.filter((one) => fs.existsSync(path.join(llama, one))))
    copy(path.join(llama, name), path.join(to, name), (file) => !NOT_COMPILED.test(file));
  fs.writeFileSync(path.join(to, packedSourceMark.file), packedSourceMark.content());
}

/** What was compiled here, where a build there would put it. */
function addBuilt(repository) {
  const build = path.resolve(options.build);
  const cuda = path.join(root, "build", "cuda", "bin");
  copy(path.join(build, "Release"), path.join(repository, "build", "Release"), (file) => !/ggml-cuda/.test(file));
  if (fs.existsSync(path.join(build, "testing")))
    copy(path.join(build, "testing"), path.join(repository, "build", "testing"));
  const tools = path.join(build, "cmake", "bin");
  for (const name of fs.readdirSync(tools).filter((one) => one.startsWith("llama-"))) {
    const to = path.join(repository, "build", "cmake", "bin", name);
    copy(path.join(tools, name), to);
    strip(to);
  }
  copy(
    path.join(build, "Release", "libggml-base.so"),
    path.join(repository, "build", "cuda", "bin", "libggml-base.so"),
  );
  for (const name of fs.readdirSync(cuda)) {
    // The one plugin that coldstart finds by itself is ours; the other programs are told by path.
    const to = name === "libggml-cuda.so" ? ["build", "Release", name] : ["build", "cuda", "bin", name];
    copy(path.join(cuda, name), path.join(repository, ...to));
  }
  fs.writeFileSync(path.join(repository, "build", "prebuilt"), "");
}

/** Symbols are a good part of a program that nobody debugs. */
function strip(program) {
  spawnSync("strip", [program]);
}

function closure(names) {
  const found = new Set();
  const visit = (name) => {
    if (found.has(name) || !fs.existsSync(packageFolder(name))) return;
    found.add(name);
    const { dependencies, optionalDependencies } = JSON.parse(
      fs.readFileSync(path.join(packageFolder(name), "package.json"), "utf8"),
    );
    for (const one of Object.keys({ ...dependencies, ...optionalDependencies })) visit(one);
  };
  names.forEach(visit);
  return found;
}

function packageFolder(name) {
  return path.join(root, "node_modules", name);
}

function copy(from, to, filter = () => true) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.cpSync(from, to, { recursive: true, dereference: true, filter });
}

function git(...args) {
  return execFileSync("git", ["-C", root, ...args], { encoding: "utf8", maxBuffer: 2 ** 26 });
}
