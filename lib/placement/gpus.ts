// Which GPUs a model goes to, and in what shares.

import type { PlacementWishes } from "../check-load.js";
import type { NativeDevice, NativeEngineOptions } from "../native.js";
import { invalidOption } from "../options.js";

export function names(devices: NativeDevice[]): string {
  return devices.map(({ name }) => name).join(", ");
}

/** The GPUs that llama.cpp takes: workers first, no GPU twice (seen by two backends), integrated ones if there are no others. */
export function defaultGpus(all: NativeDevice[]): NativeDevice[] {
  const workers = all.filter(({ backend }) => backend.startsWith("RPC"));
  const local = all.filter(({ backend }) => !backend.startsWith("RPC"));
  const once = local.filter(
    ({ pciId }, i) => pciId === undefined || local.findIndex((other) => other.pciId === pciId) === i,
  );
  const gpus = once.filter(({ type }) => type === "gpu");
  const integrated = once.filter(({ type }) => type === "igpu");
  const first = integrated[0];
  return [...workers, ...(gpus.length > 0 ? gpus : integrated.filter(({ backend }) => backend === first?.backend))];
}

/** Tensors can only be on devices that compute the model. */
export function checkOverrides(
  { overrides, splitMode }: NativeEngineOptions,
  wishes: PlacementWishes,
  devices: NativeDevice[],
): void {
  const used =
    splitMode === "tensor"
      ? []
      : splitMode === "none"
        ? devices.slice(mainDevice(wishes.mainDevice, devices)).slice(0, 1)
        : devices;
  const index = overrides.findIndex(([, device]) => device !== "CPU" && !used.some(({ name }) => name === device));
  if (index < 0) return;
  const expected = ['"CPU"', ...used.map(({ name }) => `"${name}"`)].join(" or ");
  throw invalidOption(`tensorOverrides[${index}].device`, overrides[index]?.[1], `${expected}, the devices in use`);
}

/** Of llama.cpp's backends, those that can split the rows of a matrix. */
const ROW_BACKENDS = ["CUDA", "ROCm", "MUSA", "SYCL"];

export function checkRows({ splitMode }: NativeEngineOptions, devices: NativeDevice[]): void {
  const cannot = devices.find(({ backend }) => !ROW_BACKENDS.includes(backend));
  if (splitMode !== "row" || devices.length < 2 || !cannot) return;
  throw invalidOption("splitMode", splitMode, `"layer" or "tensor": ${cannot.backend} cannot split rows`);
}

export function mainDevice(name: string | undefined, devices: NativeDevice[]): number {
  if (name === undefined) return 0;
  const index = devices.findIndex((device) => device.name === name);
  if (index < 0)
    throw invalidOption(
      "mainDevice",
      name,
      devices.length === 0 ? "left out without a GPU" : `among ${names(devices)}`,
    );
  return index;
}

export function tensorSplit({ tensorSplit: asked, limits }: PlacementWishes, devices: NativeDevice[]): number[] {
  if (devices.length === 0) return [];
  if (!asked) return devices.map(({ name, memoryFree }) => Math.min(memoryFree, limits[name] ?? Infinity) / 2 ** 20);
  if (asked.length === devices.length) return asked;
  throw invalidOption("tensorSplit", asked, `as many shares as there are devices: ${devices.length}`);
}
