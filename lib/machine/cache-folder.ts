import os from "node:os";
import path from "node:path";

/** Where coldstart keeps what can be made again, for this user. */
export function cacheFolder(): string {
  return path.join(base(), "coldstart");
}

function base(): string {
  if (process.platform === "win32") return process.env["LOCALAPPDATA"] ?? path.join(os.homedir(), "AppData", "Local");
  if (process.platform === "darwin") return path.join(os.homedir(), "Library", "Caches");
  return process.env["XDG_CACHE_HOME"] || path.join(os.homedir(), ".cache");
}
