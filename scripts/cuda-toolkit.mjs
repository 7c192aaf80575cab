// Puts nvcc and what it compiles with into deps/cuda, from NVIDIA's wheels on PyPI: for machines without a CUDA toolkit, where our
// kernels shall still be compiled (Linux on x64). No driver, no GPU and nothing of cuBLAS.
//
//   node scripts/cuda-toolkit.mjs [--fetch]   prints nvcc's path; --fetch even where there is one
//   import { ensureCudaToolkit, findNvcc } from "./cuda-toolkit.mjs"

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "deps", "cuda");

/** Version and SHA-256 of each wheel (manylinux, x86_64). pip refuses what has another. */
const WHEELS = [
  ["nvidia-cuda-nvcc", "13.0.88", "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03"],
  ["nvidia-cuda-crt", "13.0.88", "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4"],
  ["nvidia-nvvm", "13.0.88", "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0"],
  ["nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"],
  ["nvidia-cuda-cccl", "13.0.85", "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649"],
];

/** nvcc's full path, or undefined: CUDACXX, CUDA_PATH, CUDA_HOME, PATH, the usual folder, deps/cuda. */
export function findNvcc(env = process.env) {
  const name = process.platform === "win32" ? "nvcc.exe" : "nvcc";
  const homes = [env["CUDA_PATH"], env["CUDA_HOME"]].filter((home) => home !== undefined);
  const folders = [
    ...homes.map((home) => path.join(home, "bin")),
    ...(env["PATH"] ?? "").split(path.delimiter),
    "/usr/local/cuda/bin",
    path.join(toolkitHome(), "bin"),
  ];
  const found = [env["CUDACXX"], ...folders.map((one) => path.join(one, name))];
  return found.find((file) => file !== undefined && fs.existsSync(file));
}

/** nvcc's full path; fetched when this machine has none. Throws where that cannot be. */
export function ensureCudaToolkit() {
  return findNvcc() ?? fetchToolkit();
}

function fetchToolkit() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(
      "There is no nvcc, and NVIDIA's wheels are fetched on x64 Linux alone: install the CUDA 13 toolkit.",
    );
  }
  const part = `${folder}.part`;
  fs.rmSync(part, { recursive: true, force: true });
  fs.mkdirSync(part, { recursive: true });
  const requirements = path.join(part, "requirements.txt");
  fs.writeFileSync(
    requirements,
    WHEELS.map(([name, version, hash]) => `${name}==${version} --hash=sha256:${hash}\n`).join(""),
  );
  const args = [
    "install",
    "--target",
    part,
    "--no-deps",
    "--only-binary",
    ":all:",
    "--require-hashes",
    "-r",
    requirements,
  ];
  const { status, error, stderr } = spawnSync(
    "python3",
    ["-m", "pip", ...args, "--quiet", "--no-compile", "--retries", "1"],
    {
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  if (error !== undefined || status !== 0) {
    throw new Error(
      `pip could not install NVIDIA's wheels into deps/cuda. Check that python3 has pip, and pip's index and network.\n${stderr ?? ""}`,
    );
  }
  // As nvcc.profile and CMake look for it.
  const home = path.join(part, "nvidia", "cu13");
  fs.symlinkSync("lib", path.join(home, "lib64"));
  const target = path.join(home, "targets", "x86_64-linux");
  fs.mkdirSync(target, { recursive: true });
  for (const name of ["include", "lib"]) fs.symlinkSync(path.join("..", "..", name), path.join(target, name));
  fs.rmSync(folder, { recursive: true, force: true });
  fs.renameSync(part, folder);
  return path.join(toolkitHome(), "bin", "nvcc");
}

function toolkitHome() {
  return path.join(folder, "nvidia", "cu13");
}

if (process.argv[1] === import.meta.filename) {
  console.log(process.argv.includes("--fetch") ? fetchToolkit() : ensureCudaToolkit());
}
