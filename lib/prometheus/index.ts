/**
 * Metrics of models for Prometheus, on `prom-client`.
 *
 * @module
 */

import { hostname } from "node:os";
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { ColdstartError, inspectMachine, ModelPool, type Model } from "../index.js";
import { FAMILIES, type ModelFigures, type Sample } from "./families.js";
import { GPU_FAMILIES, labelsOf } from "./gpus.js";

/** Models whose metrics are told: one, those of a pool that are loaded, or several by their names. */
export type MetricsSource = Model | ModelPool | Readonly<Record<string, Model>>;

export interface MetricsOptions {
  /** Where they are registered, beside an application's own. Default: a registry of their own. */
  registry?: Registry;
  /**
   * Buckets of histograms of times for each doubling: 1, 2, 4, 8 or 16. With 4, percentiles are known to 19 %, and each of the six histograms has
   * 76 series for each model; with 16, to 4.4 %, and 292 series. Default 4.
   */
  bucketsPerOctave?: 1 | 2 | 4 | 8 | 16;
  /** Also those of this process: memory, CPU, event loop, page faults, disk. Default true. */
  process?: boolean;
  /** Also those of NVIDIA's GPUs, under the names of DCGM's exporter. Default true. */
  gpus?: boolean;
}

/**
 * Registers the metrics of models, and gives the registry: `await registry.metrics()` is what a scrape gets, of the type
 * `registry.contentType`. Figures are read when they are asked for.
 *
 * @throws `INVALID_OPTION`
 */
export function createMetrics(source: MetricsSource, options: MetricsOptions = {}): Registry {
  const { registry = new Registry(), bucketsPerOctave = 4, process: ofProcess = true, gpus: ofGpus = true } = options;
  if (![1, 2, 4, 8, 16].includes(bucketsPerOctave)) {
    throw new ColdstartError("INVALID_OPTION", `bucketsPerOctave is ${String(bucketsPerOctave)}.`, {
      remedy: "It must be 1, 2, 4, 8 or 16.",
      details: { option: "bucketsPerOctave", value: bucketsPerOctave },
    });
  }
  const figures = together(() => figuresOf(source));
  for (const { name, help, type, samples } of FAMILIES)
    register(registry, { name, help, type }, async () =>
      (await figures()).flatMap((model) => samples(model, bucketsPerOctave)),
    );
  if (ofGpus) registerGpus(registry);
  if (ofProcess) registerProcess(registry);
  return registry;
}

function registerGpus(registry: Registry): void {
  const host = hostname();
  const gpus = together(async () => (await inspectMachine()).nvidia.gpus);
  for (const { name, help, of } of GPU_FAMILIES)
    register(registry, { name, help, type: "gauge" }, async () =>
      (await gpus()).flatMap((gpu) => {
        const value = of(gpu);
        return value === undefined ? [] : [{ name, labels: { ...labelsOf(gpu, host) }, value }];
      }),
    );
}

function registerProcess(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
  const usage = (name: string, help: string, of: (usage: NodeJS.ResourceUsage) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(of(process.resourceUsage()));
      },
    });
  usage("coldstart:process_major_page_faults", "Page faults that had to read from a disk.", (u) => u.majorPageFault);
  usage("coldstart:process_minor_page_faults", "Page faults that did not.", (u) => u.minorPageFault);
  usage("coldstart:process_disk_reads", "Reads from disks, in the system's blocks.", (u) => u.fsRead);
}

async function figuresOf(source: MetricsSource): Promise<ModelFigures[]> {
  if (source instanceof ModelPool) return source.metrics();
  const models: [string, Model][] = isModel(source)
    ? [[source.info.name ?? source.info.architecture, source]]
    : Object.entries(source);
  const loaded = models.filter(([, model]) => !model.disposed);
  return Promise.all(
    loaded.map(async ([name, model]) => ({ name, metrics: await model.metrics(), status: model.status() })),
  );
}

function isModel(source: Model | Readonly<Record<string, Model>>): source is Model {
  return typeof source.metrics === "function";
}

/** All that asks before it is answered gets the same answer: a scrape asks once for each family. */
function together<T>(read: () => Promise<T>): () => Promise<T> {
  let asked: Promise<T> | undefined;
  return () => {
    asked ??= read().finally(() => (asked = undefined));
    return asked;
  };
}

/** A metric whose values are kept elsewhere: prom-client asks for no more than this. */
function register(
  registry: Registry,
  about: { name: string; help: string; type: string },
  read: () => Promise<Sample[]>,
): void {
  const get = async () => ({
    ...about,
    aggregator: "sum",
    values: (await read()).map(({ name, labels, value }) => ({ metricName: name, labels, value })),
  });
  registry.registerMetric({ ...about, get, reset: () => undefined } as never);
}
