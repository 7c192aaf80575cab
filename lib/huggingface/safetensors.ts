// Headers of safetensors files, checked before anything in them is believed (https://github.com/huggingface/safetensors,
// README, "Format"): 8 bytes with the length of the header, the header in JSON, the tensors' bytes.

import { open } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import { decodeUtf8, duplicateKey, JsonObject, parseJson, readOptional, readOptionalText, unreadable } from "./json.js";

export interface CheckpointTensor {
  name: string;
  /** `"F32"`, `"BF16"`, … */
  type: string;
  /** The slowest dimension first. */
  shape: number[];
  /** Path of the file. */
  file: string;
  /** From the file's beginning. */
  offset: number;
  bytes: number;
}

/** As in the reference implementation. */
const MAX_HEADER = 100_000_000;

const BITS: ReadonlyMap<string, number> = new Map([
  ["BOOL", 8], ["U8", 8], ["I8", 8], ["F8_E5M2", 8], ["F8_E4M3", 8], ["F8_E8M0", 8], ["U16", 16], ["I16", 16], ["F16", 16],
  ["BF16", 16], ["U32", 32], ["I32", 32], ["F32", 32], ["U64", 64], ["I64", 64], ["F64", 64],
]); // prettier-ignore

/** All tensors of the folder, by name. */
export async function readCheckpoint(folder: string): Promise<Map<string, CheckpointTensor>> {
  const index = await readOptionalText(folder, "model.safetensors.index.json");
  if (index === undefined) return readSingle(folder);
  const name = "model.safetensors.index.json";
  const json = parseJson(index, name);
  const twice = duplicateKey(index);
  if (twice !== undefined) throw invalidCheckpoint(`${name} has ${JSON.stringify(twice)} twice.`, { file: name });
  const weightMap = new JsonObject(json, name).object("weight_map");
  if (weightMap === undefined) throw invalidCheckpoint(`${name} has no weight_map.`, { file: name });

  const files = new Map<string, string>();
  for (const tensor of weightMap.keys()) {
    const file = weightMap.string(tensor);
    // Only files of the folder itself: an index is no way to read others.
    if (file === undefined || file !== path.basename(file) || /[\\/\0]/.test(file) || !file.endsWith(".safetensors"))
      throw weightMap.wrong(tensor, "must be the name of a .safetensors file in the folder");
    files.set(tensor, file);
  }
  const tensors = new Map<string, CheckpointTensor>();
  for (const file of new Set(files.values())) {
    for (const tensor of await readHeader(path.join(folder, file))) {
      if (files.get(tensor.name) !== file) {
        throw invalidCheckpoint(`${file} has the tensor ${tensor.name}, and ${name} does not say so.`, {
          file,
          tensor: tensor.name,
        });
      }
      tensors.set(tensor.name, tensor);
    }
  }
  for (const [tensor, file] of files) {
    if (!tensors.has(tensor))
      throw invalidCheckpoint(`${file} has no tensor ${tensor}, which ${name} says it has.`, { file, tensor });
  }
  return tensors;
}

async function readSingle(folder: string): Promise<Map<string, CheckpointTensor>> {
  const file = path.join(folder, "model.safetensors");
  const tensors = await readHeader(file).catch(async (error: unknown) => {
    if (!(error instanceof ColdstartError) || (error.cause as NodeJS.ErrnoException | undefined)?.code !== "ENOENT")
      throw error;
    const pickled = (await readOptional(folder, "pytorch_model.bin.index.json").catch(() => undefined)) !== undefined;
    throw pickled
      ? unsupported(
          `The weights in ${folder} are pickled (pytorch_model-*.bin), which can run code when they are read.`,
          {
            path: folder,
          },
        )
      : invalidCheckpoint(
          `${folder} has neither model.safetensors nor model.safetensors.index.json.`,
          { path: folder },
          "Download the safetensors files of the model, too; other formats of weights are not read.",
        );
  });
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

/** All of a tensor's bytes: for small ones. */
export async function readBytes({ file, offset, bytes }: CheckpointTensor): Promise<Buffer> {
  const data = Buffer.alloc(bytes);
  try {
    const handle = await open(file);
    try {
      const { bytesRead } = await handle.read(data, 0, bytes, offset);
      if (bytesRead < bytes) throw invalidCheckpoint(`${file} became shorter while it was read.`, { path: file });
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw error instanceof ColdstartError ? error : unreadable(file, error);
  }
  return data;
}

/** The tensors of one file. */
export async function readHeader(file: string): Promise<CheckpointTensor[]> {
  let handle;
  try {
    handle = await open(file);
  } catch (error) {
    throw unreadable(file, error);
  }
  try {
    const { size } = await handle.stat();
    const damaged = (what: string, details = {}) =>
      invalidCheckpoint(`${path.basename(file)} is damaged: ${what}.`, { file, fileSize: size, ...details });
    const start = Buffer.alloc(8);
    const { bytesRead } = await handle.read(start, 0, 8, 0);
    if (bytesRead < 8) throw damaged(`it has ${size} bytes, and not even the length of a header`);
    const length = start.readBigUInt64LE();
    if (length > BigInt(MAX_HEADER))
      throw damaged(`its header would have ${length} bytes; at most ${MAX_HEADER} are read`);
    const dataOffset = 8 + Number(length);
    if (dataOffset > size) throw damaged(`its header ends at byte ${dataOffset}, and the file at ${size}`);
    const header = Buffer.alloc(Number(length));
    await handle.read(header, 0, header.length, 8);
    return parseHeader(decodeUtf8(header, path.basename(file)), file, dataOffset, size - dataOffset, damaged);
  } catch (error) {
    throw error instanceof ColdstartError ? error : unreadable(file, error);
  } finally {
    await handle.close();
  }
}

function parseHeader(
  text: string,
  file: string,
  dataOffset: number,
  dataSize: number,
  damaged: (what: string, details?: object) => Error,
): CheckpointTensor[] {
  const header = new JsonObject(parseJson(text, path.basename(file)), path.basename(file));
  const twice = duplicateKey(text);
  if (twice !== undefined) throw damaged(`its header has ${JSON.stringify(twice)} twice`, { key: twice });
  const tensors = header
    .keys()
    .filter((name) => name !== "__metadata__")
    .map((name): CheckpointTensor => {
      const info = new JsonObject(header.get(name), `${name} of ${path.basename(file)}`);
      const type = info.string("dtype") ?? "missing";
      const bits = BITS.get(type);
      if (bits === undefined) {
        throw unsupported(`The tensor ${name} has the type ${type}, which is not known.`, { file, tensor: name, type });
      }
      const shape = integers(info, "shape");
      const [begin, end, ...rest] = integers(info, "data_offsets");
      if (begin === undefined || end === undefined || rest.length > 0 || begin > end)
        throw info.wrong("data_offsets", "must be a beginning and an end");
      if (end > dataSize)
        throw damaged(`the tensor ${name} ends at byte ${end} of the weights, and there are ${dataSize}`, {
          tensor: name,
        });
      // Products beyond 2^53 are not exact, and still far too large.
      const bytes = shape.reduce((product, extent) => product * extent, bits / 8);
      if (bytes !== end - begin) {
        throw damaged(
          `the tensor ${name} of the type ${type} and the shape [${shape.join(", ")}] needs ${bytes} bytes, and has ${end - begin}`,
          { tensor: name },
        );
      }
      return { name, type, shape, file, offset: dataOffset + begin, bytes };
    });
  // The format allows neither overlaps nor holes.
  let position = dataOffset;
  for (const tensor of tensors.toSorted((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (tensor.offset !== position) {
      const what = tensor.offset < position ? "overlaps the one before it" : "does not follow the one before it";
      throw damaged(`the tensor ${tensor.name} ${what}`, { tensor: tensor.name });
    }
    position += tensor.bytes;
  }
  if (position !== dataOffset + dataSize)
    throw damaged(`its last tensor ends at byte ${position - dataOffset} of the weights, and there are ${dataSize}`);
  return tensors;
}

function integers(info: JsonObject, name: string): number[] {
  const values = info.array(name);
  if (!values?.every((value): value is number => Number.isSafeInteger(value) && (value as number) >= 0))
    throw info.wrong(name, "must be an array of whole numbers from 0 on");
  return values;
}
