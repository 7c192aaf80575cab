// A hub on this machine, as Hugging Face's answers: listings with checksums, and files with or without ranges, and with faults.

import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";

export interface HubRequest {
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

export interface HubOptions {
  repo: string;
  files: Record<string, Buffer>;
  /** Files that are no LFS files: their checksum is git's. */
  small?: string[];
  commit?: string;
  /** Default true. */
  ranges?: boolean;
  /** Changes the listing before it is sent. */
  listing?: (listing: Listing) => unknown;
  /** Looks at each request for a file; returns true when it has answered. `count` says how many came for this file before. */
  intercept?: (request: HubRequest, response: http.ServerResponse, count: number) => boolean;
  /** For listings. */
  refuse?: (request: HubRequest, response: http.ServerResponse) => boolean;
}

export interface Listing {
  sha: string;
  siblings: { rfilename: string; size: number; blobId: string; lfs?: { sha256: string; size: number } }[];
}

export interface Hub extends AsyncDisposable {
  endpoint: string;
  requests: HubRequest[];
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export function gitHash(bytes: Buffer): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

export async function serveHub(options: HubOptions): Promise<Hub> {
  const { repo, files, small = [], commit = COMMIT, ranges = true, listing = (one: Listing) => one } = options;
  const requests: HubRequest[] = [];
  const counts = new Map<string, number>();
  const server = http.createServer((message, response) => {
    const path = decodeURIComponent(new URL(message.url ?? "", "http://hub").pathname);
    const { range, authorization } = message.headers;
    const request = { path, range, authorization };
    requests.push(request);
    if (path.startsWith(`/api/models/${repo}/revision/`)) {
      if (options.refuse?.(request, response)) return;
      const siblings = Object.entries(files).map(([rfilename, bytes]) => ({
        rfilename,
        size: bytes.length,
        blobId: gitHash(bytes),
        ...(!small.includes(rfilename) && {
          lfs: { sha256: createHash("sha256").update(bytes).digest("hex"), size: bytes.length },
        }),
      }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(listing({ sha: commit, siblings })));
      return;
    }
    const name = path.slice(`/${repo}/resolve/${commit}/`.length);
    const bytes = files[name];
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    if (options.intercept?.(request, response, count)) return;
    if (!path.startsWith(`/${repo}/resolve/${commit}/`) || bytes === undefined) {
      response.writeHead(404).end("not here");
      return;
    }
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    if (!ranges || from === undefined) {
      response.writeHead(200, { "content-length": bytes.length }).end(bytes);
      return;
    }
    const part = bytes.subarray(Number(from), Number(to) + 1);
    response.writeHead(206, {
      "content-range": `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`,
      "content-length": part.length,
    });
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
