import { native, type InspectedGguf, type MetadataValue } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { inspectRemote, isRemote, toUrl } from "./remote.js";

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

export interface InspectOptions {
  /** Elements to return of each metadata array, `Infinity` for all. Default 16. */
  arrayLimit?: number;
  /** Of a URL: sent with each request, for example `{ authorization: "Bearer …" }`. */
  headers?: Readonly<Record<string, string>>;
  /** Of a URL: ends the requests. */
  signal?: AbortSignal;
}

/**
 * Reads and checks the header of a GGUF file without its weights.
 *
 * Of a file on a server only the header is fetched, with Range requests. A server that does not know them is read from the
 * beginning, and no further than the header.
 *
 * @param file a path, or a URL: `https:`, `http:`, `file:`
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_OPTION`, `ABORTED`, and with `LOAD_FAILED` when it cannot be read.
 */
export async function inspectGguf(file: string | URL, options: InspectOptions = {}): Promise<GgufInfo> {
  const read = new OptionReader(options, [
    "arrayLimit",
    "headers",
    "signal",
  ] satisfies readonly (keyof InspectOptions)[]);
  const arrayLimit =
    read.raw("arrayLimit") === Infinity
      ? Number.MAX_SAFE_INTEGER
      : read.integer("arrayLimit", 0, Number.MAX_SAFE_INTEGER, 16);
  const request = { headers: read.texts("headers"), signal: read.signal() };
  return describe(
    isRemote(file)
      ? await inspectRemote(toUrl(file), arrayLimit, request)
      : await native().inspectGguf(toPath(file, "path", "the path or the URL of a GGUF file"), arrayLimit),
  );
}

function describe({ metadata, tensors, ...header }: InspectedGguf): GgufInfo {
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
