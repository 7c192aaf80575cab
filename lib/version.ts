import { readFileSync } from "node:fs";
import { native } from "./native.js";

export interface Versions {
  /** This package. */
  coldstart: string;
  /** The llama.cpp release it was built from. */
  llamaCpp: string;
  ggml: string;
  /** CPU features and backends, as llama.cpp prints them. */
  systemInfo: string;
  /** How the native addon was built: `"Release"`, `"Debug"`, … */
  buildType: string;
  /** What it was built with: `"GNU 12.2.0"`, … */
  compiler: string;
}

export function version(): Versions {
  const { version: coldstart } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return { coldstart, ...native().versions() };
}
