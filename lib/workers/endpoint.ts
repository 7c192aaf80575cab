// Addresses of workers.

import { invalidOption } from "../options.js";

export interface Endpoint {
  host: string;
  /** Of llama.cpp's RPC protocol; the next one tells what the worker is. */
  port: number;
}

/** The port of llama.cpp's own rpc-server. */
export const DEFAULT_ENDPOINT = "127.0.0.1:50052";

/** "host:port", the host an IPv4 address or a name. Throws `INVALID_OPTION`. */
export function parseEndpoint(option: string, value: unknown): Endpoint {
  const match =
    typeof value === "string" ? /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?):(\d{1,5})$/.exec(value) : null;
  const [, host, digits] = match ?? [];
  const port = Number(digits);
  // The protocol's port and the next one.
  if (host === undefined || port < 1 || port > 65_534) {
    throw invalidOption(
      option,
      value,
      `"host:port", the host a name or an IPv4 address (llama.cpp's RPC backend has no IPv6), the port from 1 to 65534`,
    );
  }
  return { host, port };
}
