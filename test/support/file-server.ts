// A server of one file on this machine, with or without Range requests, and with faults.

import http from "node:http";
import type { AddressInfo } from "node:net";

export interface FileServerOptions {
  /** Default true: answers Range requests. */
  ranges?: boolean;
  /** Looks at each request; returns true when it has answered. */
  intercept?: (request: http.IncomingMessage, response: http.ServerResponse) => boolean;
}

export interface FileServer extends AsyncDisposable {
  url: string;
  /** Of each request: its Range header. */
  requests: (string | undefined)[];
  /** Bytes of bodies that were handed to the system. */
  sent: () => number;
}

export async function serveFile(
  bytes: Buffer,
  { ranges = true, intercept }: FileServerOptions = {},
): Promise<FileServer> {
  const requests: (string | undefined)[] = [];
  let sent = 0;
  const server = http.createServer((request, response) => {
    requests.push(request.headers.range);
    if (intercept?.(request, response)) return;
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    if (!ranges || from === undefined) {
      response.writeHead(200, { "content-length": bytes.length });
      sendSlowly(response, bytes);
      return;
    }
    const part = bytes.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`;
    response.writeHead(206, { "content-range": range, "content-length": part.length });
    sendSlowly(response, part);
  });
  /** No faster than the client takes it. */
  function sendSlowly(response: http.ServerResponse, body: Buffer): void {
    let at = 0;
    const more = () => {
      while (at < body.length && !response.destroyed) {
        const chunk = body.subarray(at, at + 65_536);
        at += chunk.length;
        sent += chunk.length;
        if (!response.write(chunk)) {
          response.once("drain", more);
          return;
        }
      }
      response.end();
    };
    more();
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/folder/model.gguf`,
    requests,
    sent: () => sent,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
