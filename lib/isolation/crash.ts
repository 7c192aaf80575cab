import { ColdstartError } from "../errors.js";
import { probeWorker } from "../workers/probe.js";

/** How long a worker may take to show that it is there, in milliseconds. */
const WORKER_TIMEOUT = 1000;

export interface EngineEnd {
  code: number | null;
  signal: string | null;
  /** Why the process could not be started. */
  cause: Error | undefined;
  /** The end of what it wrote to standard error. */
  lastWords: string;
  workers: string[];
  /** Of them, those that it was killed for because they vanished. */
  lostWorkers: string[] | undefined;
}

/** `ENGINE_CRASHED`, with the worker that is gone, if that is why. */
export async function engineCrashed(end: EngineEnd): Promise<ColdstartError> {
  const { code, signal, cause, lastWords, workers } = end;
  const lostWorkers = end.lostWorkers ?? (await findLost(workers));
  const lost = lostWorkers.length === 0 ? "" : ` No answer from ${lostWorkers.join(" and ")}.`;
  return new ColdstartError("ENGINE_CRASHED", what(end) + lost, {
    remedy:
      workers.length > 0
        ? "See that all workers run and can be reached, then load the model again."
        : "Load the model again; if it happens again, please report it with the model's name.",
    details: { exitCode: code, signal, stderr: lastWords, ...(workers.length > 0 && { workers, lostWorkers }) },
    cause,
  });
}

function what({ code, signal, cause, lastWords, lostWorkers }: EngineEnd): string {
  if (cause !== undefined) return `The process that computes the model could not be started: ${cause.message}.`;
  if (lostWorkers !== undefined)
    return "The process that computes the model was ended: it waited for a worker in vain.";
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  const reason = abortMessage(lastWords);
  return `The process that computes the model ended unexpectedly (${how})${reason === undefined ? "" : `: ${reason}`}.`;
}

async function findLost(workers: string[]): Promise<string[]> {
  const probes = await Promise.allSettled(
    workers.map((endpoint) => probeWorker(endpoint, { timeout: WORKER_TIMEOUT })),
  );
  return workers.filter((_, i) => probes[i]?.status === "rejected");
}

/** What ggml said when it aborted, or else the last line. Of ggml: "/build/…/ggml-rpc.cpp:571: the reason" */
export function abortMessage(lastWords: string): string | undefined {
  const lines = lastWords.split("\n").filter((line) => line.trim() !== "");
  const aborts = lines.map((line) => /([^\\/]+\.(?:c|cc|cpp|h|cu|cuh|m|mm):\d+: .*?)\.?\s*$/.exec(line)?.[1]);
  return aborts.findLast((abort) => abort !== undefined) ?? lines.at(-1)?.trim();
}
