import { ColdstartError } from "../errors.js";
import { invalidOption, OptionReader } from "../options.js";
import { defaultCache, RepoCache } from "./cache.js";
import { chooseFiles, type ChosenFiles, type RepoFile } from "./choose-files.js";
import { download } from "./download.js";
import { aborted, defaultToken, failed, request, type RequestOptions } from "./request.js";
import { isSafePath, isSpec, parseSpec, type HubSpec } from "./spec.js";

export interface PullOptions {
  /** Use what was fetched before, and ask nobody. Default: `HF_HUB_OFFLINE`. */
  offline?: boolean;
  /** Where files are kept. Default: `HF_HUB_CACHE`, `HF_HOME`, or ~/.cache/huggingface/hub, as Hugging Face's own tools have it. */
  cache?: string;
  /** Default: `HF_ENDPOINT`, or Hugging Face. */
  endpoint?: string;
  /** Default: `HF_TOKEN`, or what Hugging Face's own tools have kept. */
  token?: string;
  /** Also the projector for images or recordings (mmproj), if the repository has one. Default false. */
  mmproj?: boolean;
  /** Pieces of a file that are fetched at the same time, 1 to 32. Default 4. */
  connections?: number;
  /** Gets bytes that are there and bytes in all, of all files. */
  onProgress?: (progress: PullProgress) => void;
  /** Rejects with `ABORTED`; what was fetched is kept. */
  signal?: AbortSignal;
}

export interface PullProgress {
  bytes: number;
  total: number;
}

export interface PulledModel {
  /** For `loadModel()`: a GGUF file, of a split model the first, or a folder. */
  path: string;
  /** All files, as paths. */
  files: string[];
  /** The commit that they are of. */
  commit: string;
  /** Bytes of all files. */
  bytes: number;
}

const ENDPOINT = "https://huggingface.co";
/** Where nobody answers, there is the cache. */
const LISTING_ATTEMPTS = 3;
const REQUEST: Omit<RequestOptions, "token" | "signal"> = { attempts: 5, stall: 30_000 };

interface Listing {
  commit: string;
  files: RepoFile[];
}

/**
 * Fetches a model from a hub, or what is missing of it, into the cache that Hugging Face's tools share: files are fetched in pieces,
 * several at a time, gone on with after an interruption, and checked by their checksums.
 *
 * @param model `"hf:owner/repo"`, and behind it if wanted `":Q4_K_M"` (a quantization), `"/file.gguf"`, or before these `"@revision"`. Of a
 * repository of several GGUF files without either, Q4_K_M or what comes next to it; of one without any, the checkpoint.
 *
 * Rejects with `INVALID_OPTION`, `MODEL_NOT_FOUND` (no such repository or file; it lists what there is), `DOWNLOAD_FAILED`, `WRITE_FAILED`, `ABORTED`.
 */
export async function pullModel(model: string, options: PullOptions = {}): Promise<PulledModel> {
  const read = new OptionReader(options, [
    "offline", "cache", "endpoint", "token", "mmproj", "connections", "onProgress", "signal",
  ] satisfies readonly (keyof PullOptions)[]); // prettier-ignore
  if (!isSpec(model)) throw invalidOption("model", model, '"hf:owner/repo"');
  const spec = parseSpec(model);
  const signal = read.signal();
  const offline = read.boolean(
    "offline",
    ["1", "true", "yes", "on"].includes((process.env["HF_HUB_OFFLINE"] ?? "").toLowerCase()),
  );
  const endpoint = checkEndpoint(read.string("endpoint", process.env["HF_ENDPOINT"] ?? ENDPOINT));
  const token = read.string("token", "") || (await defaultToken());
  const cache = new RepoCache(read.string("cache", defaultCache()), spec.repo);
  const withProjector = read.boolean("mmproj", false);
  const connections = read.integer("connections", 1, 32, 4);
  const onProgress = read.callback("onProgress") as PullOptions["onProgress"];
  if (signal?.aborted) throw aborted(signal);
  const requests = { ...REQUEST, token, signal };

  if (offline) return fromCache(cache, spec, withProjector);
  let listing: Listing;
  try {
    listing = await list(endpoint, spec, requests);
  } catch (error) {
    // Not where it answers, and refuses.
    const isUnreachable =
      error instanceof ColdstartError && error.code === "DOWNLOAD_FAILED" && error.cause !== undefined;
    if (!isUnreachable) throw error;
    const kept = await fromCache(cache, spec, withProjector).catch(() => undefined);
    if (!kept) throw error;
    process.emitWarning(`${error.message} What was fetched before is used.`, {
      type: "ColdstartWarning",
      code: error.code,
    });
    return kept;
  }
  const { commit } = listing;
  const chosen = chooseFiles(listing.files, spec, withProjector);
  const total = chosen.files.reduce((sum, { size }) => sum + size, 0);
  let bytes = 0;
  const onBytes = (more: number) => {
    bytes += more;
    onProgress?.({ bytes, total });
  };
  for (const file of chosen.files) {
    const url = new URL(
      `${spec.repo}/resolve/${commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`,
      endpoint,
    );
    const hash =
      file.sha256 === undefined
        ? ({ algorithm: "git", value: file.blob } as const)
        : ({ algorithm: "sha256", value: file.sha256 } as const);
    await download({ url, target: cache.blob(file), size: file.size, hash }, { ...requests, connections, onBytes });
    await cache.link(commit, file);
  }
  await cache.note(spec.revision, commit);
  return toPulled(cache, commit, chosen);
}

function checkEndpoint(endpoint: string): URL {
  try {
    const url = new URL(endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
    if (url.protocol === "https:" || url.protocol === "http:") return url;
  } catch {
    // Said below.
  }
  throw invalidOption("endpoint", endpoint, "a URL with https:// or http://");
}

async function list(endpoint: URL, { repo, revision }: HubSpec, options: RequestOptions): Promise<Listing> {
  const url = new URL(`api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`, endpoint);
  const answer = await request(
    url,
    () => ({ accept: "application/json" }),
    { ...options, attempts: LISTING_ATTEMPTS },
    (response) => response.json(),
  );
  const { sha, siblings } = answer as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings))
    throw failed(url, "the server's answer is none of a hub's");
  const files = siblings.map((one) => toFile(one as Sibling)).filter((file) => file !== undefined);
  return { commit: sha, files };
}

interface Sibling {
  rfilename?: unknown;
  size?: unknown;
  blobId?: unknown;
  lfs?: { sha256?: unknown; size?: unknown };
}

/** Undefined: it is not to be trusted with a place on the disk. */
function toFile({ rfilename, size, blobId, lfs }: Sibling): RepoFile | undefined {
  const sha256 = lfs?.sha256;
  const bytes = lfs?.size ?? size;
  if (typeof rfilename !== "string" || !isSafePath(rfilename)) return undefined;
  if (!Number.isSafeInteger(bytes) || (bytes as number) < 0) return undefined;
  if (typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256))
    return { path: rfilename, size: bytes as number, blob: sha256, sha256 };
  if (typeof blobId !== "string" || !/^[0-9a-f]{40}$/.test(blobId)) return undefined;
  return { path: rfilename, size: bytes as number, blob: blobId, sha256: undefined };
}

async function fromCache(cache: RepoCache, spec: HubSpec, withProjector: boolean): Promise<PulledModel> {
  const commit = await cache.commitOf(spec.revision);
  const files = commit === undefined ? [] : await cache.filesOf(commit);
  if (commit === undefined || files.length === 0)
    throw new ColdstartError(
      "MODEL_NOT_FOUND",
      `${spec.repo} at ${spec.revision} was not fetched before, and this is offline.`,
      {
        remedy: "Fetch it once with a connection.",
        details: { repo: spec.repo, revision: spec.revision, cache: cache.folder },
      },
    );
  return toPulled(cache, commit, chooseFiles(files, spec, withProjector));
}

function toPulled(cache: RepoCache, commit: string, { files, isFolder }: ChosenFiles): PulledModel {
  const folder = cache.snapshot(commit);
  const paths = files.map((file) => `${folder}/${file.path}`);
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return { path: isFolder ? folder : (paths[0] as string), files: paths, commit, bytes };
}
