// `coldstart serve`. Of the library it uses what applications do, so that there is one of everything.

import { existsSync, readFileSync } from "node:fs";
import { loadModel, ModelPool, type LoadOptions } from "../index.js";
import { createServer, type ServerOptions, type ServerSource } from "../server/index.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { given } from "./given.js";
import { withProgress } from "./progress.js";
import { fetched } from "./pull.js";

export interface ServeFlags extends PlacementFlags, Pick<LoadOptions, "parallel" | "maxQueue"> {
  host: string;
  port: number;
  metricsPort?: number;
  alias?: string;
  apiKey?: string[];
  insecure?: boolean;
  cors?: string[];
  chatTemplate?: string;
  timeout?: number;
  threads?: number;
  quiet?: boolean;
}

export async function serve(models: string[], flags: ServeFlags): Promise<void> {
  const { host, port, metricsPort, alias, insecure, cors, timeout, quiet = false } = flags;
  const fromEnvironment = process.env["COLDSTART_API_KEY"];
  const template = flags.chatTemplate;
  const chatTemplate = template !== undefined && existsSync(template) ? readFileSync(template, "utf8") : template;
  const options: ServerOptions = given({
    host,
    port,
    metricsPort,
    alias,
    insecure,
    cors,
    apiKeys: flags.apiKey ?? (fromEnvironment ? [fromEnvironment] : []),
    requestTimeout: timeout === undefined ? undefined : timeout * 1000,
    defaults: given({ chatTemplate }),
    logger: { level: quiet ? "warn" : "info" },
  });
  const source = await open(models, flags);
  try {
    const server = await createServer(source, options);
    const signal = await told(["SIGINT", "SIGTERM"], () => {
      if (!quiet) console.error(`${server.url}/v1 is ready. Ctrl+C ends it.`);
    });
    if (!quiet) console.error(`${signal}: requests under way may end; again to end them.`);
    process.once(signal, () => process.exit(130));
    await server.close();
  } finally {
    await source.dispose();
  }
}

async function open(models: string[], flags: ServeFlags): Promise<ServerSource> {
  const { parallel, maxQueue, threads, quiet = false } = flags;
  const load: LoadOptions = { ...placementOf(flags), ...given({ parallel, maxQueue, threads }) };
  const [only = ""] = models;
  if (models.length === 1 && !/^[\w.-]+=/.test(only)) {
    const file = await fetched(only, quiet, flags.mmproj);
    return withProgress("Loading", quiet, (progress) => loadModel(file, { ...load, ...progress }));
  }
  const pool = new ModelPool();
  for (const model of models) {
    const [, name = model, path = model] = /^([\w.-]+)=(.+)$/.exec(model) ?? [];
    pool.add(name, { path: await fetched(path, quiet, flags.mmproj), ...load });
  }
  return pool;
}

/** Resolves to the first of these signals. */
async function told(signals: readonly NodeJS.Signals[], whenListening: () => void): Promise<NodeJS.Signals> {
  const first = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of signals) process.once(signal, () => resolve(signal));
  });
  whenListening();
  return first;
}
