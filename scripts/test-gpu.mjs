// Runs test/gpu: what needs a GPU.
//
//   node scripts/test-gpu.mjs               on a software GPU: Mesa's llvmpipe behind the Vulkan backend of the pinned release
//   node scripts/test-gpu.mjs --installed   on the GPUs of this machine, with the backends that coldstart finds by itself
//
// Anything else is passed on to mocha. Without llvmpipe (Debian: mesa-vulkan-drivers) it says so and does nothing.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { extract } from "tar";
import { readPin } from "./llama-cpp.mjs";
import { packPinned } from "./npm-package.mjs";

const root = path.resolve(import.meta.dirname, "..");
const VULKAN = "@node-llama-cpp/linux-x64-vulkan";
const DRIVERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

const [, , ...args] = process.argv;
const installed = args.includes("--installed");
// Tokens are compared with the CPU's: sums of F32 have to be sums of F32.
const environment = installed ? { NVIDIA_TF32_OVERRIDE: "0" } : await softwareGpu();
if (typeof environment === "string") {
  console.log(`\n  The tests of test/gpu were skipped: ${environment}.\n`);
} else {
  const mocha = path.join(root, "node_modules", "mocha", "bin", "mocha.js");
  const { status } = spawnSync(
    process.execPath,
    [
      mocha,
      "--config",
      path.join(root, "test", "gpu", ".mocharc.json"),
      ...args.filter((arg) => arg !== "--installed"),
    ],
    { cwd: root, stdio: "inherit", env: { ...process.env, ...environment } },
  );
  process.exitCode = status ?? 1;
}

/** The environment that makes two devices of the software GPU, or why there is none. */
async function softwareGpu() {
  if (process.platform !== "linux" || process.arch !== "x64") return "the software GPU runs on x64 Linux only";
  const drivers = DRIVERS.flatMap((folder) =>
    fs.existsSync(folder) ? fs.readdirSync(folder).map((file) => path.join(folder, file)) : [],
  );
  const llvmpipe = drivers.find((file) => /lvp_icd.*\.json$/.test(file));
  if (llvmpipe === undefined) return "Mesa's llvmpipe is not installed (Debian: apt-get install mesa-vulkan-drivers)";
  return {
    COLDSTART_BACKEND_PATH: await vulkanPlugin(),
    // No real GPU beside it; and one device twice makes two.
    VK_ICD_FILENAMES: llvmpipe,
    GGML_VK_VISIBLE_DEVICES: "0,0",
  };
}

/** The folder of the Vulkan backend that the pin's own package family has, fetched once. */
async function vulkanPlugin() {
  const { version, plugins } = readPin();
  const folder = path.join(root, "build", "plugins", `${path.basename(VULKAN)}-${version}`);
  const files = ["libggml-vulkan.so", "_nlcBuildMetadata.json"];
  if (files.every((file) => fs.existsSync(path.join(folder, file)))) return folder;
  fs.mkdirSync(path.dirname(folder), { recursive: true });
  const work = fs.mkdtempSync(path.join(path.dirname(folder), ".fetch-"));
  try {
    const tarball = packPinned({ package: VULKAN, version, integrity: plugins[VULKAN] }, work);
    const bins = `package/bins/${path.basename(VULKAN)}`;
    await extract(
      { file: tarball, cwd: work },
      files.map((file) => `${bins}/${file}`),
    );
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(path.join(work, bins), folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return folder;
}
