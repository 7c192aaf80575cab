import { pullModel, type PulledModel, type PullOptions } from "../hub/pull-model.js";
import { isSpec } from "../hub/spec.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface PullFlags extends Pick<PullOptions, "cache" | "endpoint" | "connections" | "offline" | "mmproj"> {
  json?: boolean;
  quiet?: boolean;
}

export async function pull(model: string, flags: PullFlags): Promise<void> {
  const { cache, endpoint, connections, offline, mmproj, json, quiet } = flags;
  const pulled = await pullWithProgress(
    model,
    given({ cache, endpoint, connections, offline, mmproj }),
    quiet === true,
  );
  console.log(json ? JSON.stringify(pulled, null, 2) : pulled.path);
}

/** The path of a model: as it is, or of one that is fetched first. */
export async function fetched(model: string, isQuiet: boolean, mmproj?: string): Promise<string> {
  return isSpec(model) ? (await pullWithProgress(model, { mmproj: mmproj === "auto" }, isQuiet)).path : model;
}

function pullWithProgress(model: string, options: PullOptions, isQuiet: boolean): Promise<PulledModel> {
  return interruptible((signal) =>
    withProgress("Fetching", isQuiet, ({ onProgress }) =>
      pullModel(model, {
        ...options,
        signal,
        ...(onProgress && { onProgress: ({ bytes, total }) => onProgress(bytes / Math.max(total, 1)) }),
      }),
    ),
  );
}
