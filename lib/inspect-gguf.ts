import { native, type MetadataValue } from "./native.js";
import { OptionReader, toPath } from "./options.js";

/** The header of a GGUF file. Bytes. */
export interface GgufInfo {
  /** Of the format: 2 or 3. */
  version: number;
  fileSize: number;
  /** Where the weights start. */
  dataOffset: number;
  alignment: number;
  architecture: string | undefined;
  name: string | undefined;
  /** `"F16"`, `"Q4_K - Medium"`, …; undefined when the file does not say. */
  quantization: string | undefined;
  /** Number of weights. */
  parameters: number;
  weightBytes: number;
  /** Tokens the model was trained for. */
  contextLength: number | undefined;
  layers: number | undefined;
  /** All metadata, by key. */
  metadata: Record<string, MetadataValue>;
  tensors: {
    name: string;
    /** `"f32"`, `"q4_K"`, … */
    type: string;
    /** Extents, the fastest first. */
    shape: number[];
    /** From `dataOffset`. */
    offset: number;
    bytes: number;
  }[];
}

/**
 * Reads and checks the header of a GGUF file without its weights.
 *
 * @param options `arrayLimit`: elements to return of each metadata array, `Infinity` for all. Default 16.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_OPTION`, and with `LOAD_FAILED` when it cannot be read.
 */
export async function inspectGguf(path: string | URL, options: { arrayLimit?: number } = {}): Promise<GgufInfo> {
  const read = new OptionReader(options, ["arrayLimit"]);
  const arrayLimit =
    read.raw("arrayLimit") === Infinity
      ? Number.MAX_SAFE_INTEGER
      : read.integer("arrayLimit", 0, Number.MAX_SAFE_INTEGER, 16);
  const { metadata, tensors, ...header } = await native().inspectGguf(toPath(path), arrayLimit);
  const text = (key: string) => (typeof metadata[key] === "string" ? metadata[key] : undefined);
  const number = (key: string) => (typeof metadata[key] === "number" ? metadata[key] : undefined);
  const architecture = text("general.architecture");
  return {
    ...header,
    architecture,
    name: text("general.name"),
    quantization: header.quantization,
    contextLength: number(`${architecture}.context_length`),
    layers: number(`${architecture}.block_count`),
    metadata,
    tensors,
  };
}
