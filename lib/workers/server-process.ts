// The process that serves: llama.cpp's server never returns, prints what it likes, and may abort. server.ts watches it.

import { ColdstartError } from "../errors.js";
import { packError, type PackedError } from "../isolation/messages.js";
import { native, type NativeDevice } from "../native.js";

export interface ToServer {
  endpoint: string;
  /** Empty: none. */
  cacheDirectory: string;
  threads: number;
  /** Names; empty: the GPUs, or without one the CPU. */
  devices: string[];
}

export type FromServer =
  { type: "serving"; devices: NativeDevice[]; llamaCpp: string } | { type: "ended"; error: PackedError };

const send = (message: FromServer) => process.send?.(message);

// Its threads wait in native code, and there is nothing to put in order.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
process.once("message", (message) => {
  const { endpoint, cacheDirectory, threads, devices: names } = message as ToServer;
  const ended = (error: unknown) => send({ type: "ended", error: packError(error) });
  try {
    const devices = choose(native().listDevices(), names);
    send({ type: "serving", devices, llamaCpp: native().versions().llamaCpp });
    native().serveWorker(
      endpoint,
      cacheDirectory,
      threads,
      devices.map(({ name }) => name),
      ended,
    );
  } catch (error) {
    ended(error);
  }
});

function choose(all: NativeDevice[], names: string[]): NativeDevice[] {
  if (names.length === 0) {
    const gpus = all.filter(({ type }) => type === "gpu" || type === "igpu");
    return gpus.length > 0 ? gpus : all.filter(({ type }) => type === "cpu");
  }
  return names.map((name) => {
    const device = all.find((candidate) => candidate.name === name);
    if (device) return device;
    throw new ColdstartError("INVALID_OPTION", `There is no device ${name}.`, {
      remedy: `This machine has: ${all.map((candidate) => candidate.name).join(", ")}.`,
      details: { device: name },
    });
  });
}
