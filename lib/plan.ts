import { AUTO_PROJECTOR, checkLoad } from "./check-load.js";
import { withPlanning } from "./isolation/with-planning.js";
import type { LoadOptions } from "./load-options.js";
import { invalidOption } from "./options.js";
import { countExtras } from "./placement/extras.js";
import { Placer } from "./placement/placer.js";
import { openLoad, toPlan } from "./model-source.js";
import type { Plan } from "./placement/plan.js";

/** What is to be loaded, as for `loadModel()`, and what comes with it. */
export type PlanOptions = Omit<LoadOptions, "onProgress" | "signal" | "seed">;

/**
 * Where a model will go and whether it fits, before a byte of its weights is read. The same options give `loadModel()`
 * the same plan. With `gpuLayers: "auto"` and `contextLength: "auto"` it says the most that fits.
 *
 * It asks llama.cpp what it would allocate, in some milliseconds for a model of any size.
 *
 * @param model the path of a GGUF file (of a split model the first) or of a folder, or a file's header: the first bytes of the file up to the
 * weights or beyond, say from a range request; of a split model an array of them.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `LOAD_FAILED`; with `strict` also
 * with `BACKEND_UNAVAILABLE`, `OUT_OF_MEMORY`.
 */
export async function planModel(
  model: string | URL | Uint8Array | Uint8Array[],
  options: PlanOptions = {},
): Promise<Plan> {
  const headers = model instanceof Uint8Array ? [model] : Array.isArray(model) ? model : undefined;
  if (headers && !(headers.length > 0 && headers.every((header) => header instanceof Uint8Array))) {
    throw invalidOption("model", model, "a path, or the first bytes of each of its files as Uint8Array");
  }
  const checked = checkLoad(headers ? "header" : model, asObject(options));
  if (headers && checked.native.projector === AUTO_PROJECTOR)
    throw invalidOption("mmproj", AUTO_PROJECTOR, "a path: nothing lies beside a header");
  const opened = headers ? undefined : await openLoad(checked);
  const { native, notes } = opened ?? checked;
  const extra = await countExtras(native);
  if (native.projector !== "") {
    notes.push("The projector's buffers for intermediate results are not counted: they depend on the images.");
  }
  const source = opened ? toPlan(opened.source) : (headers ?? []);
  return withPlanning(checked, async (planning) => {
    return (await new Placer(source, opened ?? checked, planning, extra).place()).plan;
  });
}

function asObject<T>(options: T): T {
  if (typeof options !== "object" || options === null) throw invalidOption("options", options, "an object");
  return options;
}
