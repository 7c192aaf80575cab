import { mkdirSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { cacheFolder } from "../machine/cache-folder.js";
import { defaultThreads } from "../machine/threads.js";
import { parseEndpoint } from "../workers/endpoint.js";
import { serveWorker, type ServedWorker } from "../workers/server.js";
import { formatBytes, formatTable } from "./format.js";

export interface WorkerFlags {
  listen: string;
  allowRemote?: boolean;
  devices?: string[];
  threads?: number;
  /** A folder; true: the usual one; false: none. */
  cache: string | boolean;
}

export async function worker(options: WorkerFlags, coldstart: string): Promise<void> {
  const { allowRemote = false, devices = [], threads = defaultThreads() } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > 512) {
    throw new ColdstartError("INVALID_OPTION", `--threads is ${threads}.`, { remedy: "It must be from 1 to 512." });
  }
  const cacheDirectory = makeCache(options.cache);
  let isFirst = true;
  await serveWorker(
    { listen: parseEndpoint("--listen", options.listen), allowRemote, cacheDirectory, threads, devices, coldstart },
    {
      ready: (served) => {
        if (isFirst) introduce(served, cacheDirectory, threads, allowRemote);
        else log("ready again");
        isFirst = false;
      },
      busy: (isBusy) => log(isBusy ? "a client is connected" : "free"),
      crashed: (reason) => console.error(`${now()}  the server ended (${reason}); starting it again`),
    },
  );
}

function introduce({ endpoint, facts }: ServedWorker, cache: string, threads: number, allowRemote: boolean): void {
  const [host = "", port = ""] = endpoint.split(":");
  console.log(
    formatTable([
      ["Worker", `coldstart ${facts.coldstart}, llama.cpp ${facts.llamaCpp}`],
      ["Address", `${host}, ports ${port} (llama.cpp's RPC) and ${Number(port) + 1} (what this worker is)`],
      ...facts.devices.map(({ name, description, memoryTotal, memoryFree, type }, i) => [
        i === 0 ? "Devices" : "",
        `${name}: ${description}, ${formatBytes(memoryFree)} free of ${formatBytes(memoryTotal)}` +
          (type === "cpu" ? `, ${threads} thread${threads === 1 ? "" : "s"}` : ""),
      ]),
      ["Cache", cache === "" ? "none" : cache],
    ]),
  );
  console.log(
    allowRemote
      ? `\nNo authentication, no encryption: whoever reaches these ports can use this machine, and perhaps take it over.`
      : `\nNo authentication: every program of this machine can use it. For other machines, use a tunnel (docs/workers.md).`,
  );
  console.log(`Ready: loadModel(path, { workers: ["${host === "0.0.0.0" ? os.hostname() : host}:${port}"] })`);
}

const now = () => new Date().toTimeString().slice(0, 8);
const log = (text: string) => console.log(`${now()}  ${text}`);

/** The folder for tensors, which is made; "" for none. */
function makeCache(cache: string | boolean): string {
  if (cache === false) return "";
  const folder = path.resolve(typeof cache === "string" ? cache : path.join(cacheFolder(), "tensors"));
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new ColdstartError(
      "INVALID_OPTION",
      `The cache folder ${folder} cannot be made: ${(cause as Error).message}.`,
      {
        remedy: "Choose another with --cache, or none with --no-cache.",
        details: { option: "--cache", folder },
        cause,
      },
    );
  }
  return folder;
}
