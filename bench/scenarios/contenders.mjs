// The contenders that several scenarios have in common: each decodes some streams and resolves to numbers.

import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { tool } from "../setup/upstream.mjs";

const CONTEXT = 256; // tokens of a stream, prompt and answer
const PROMPT = 16;

export const NODE_LLAMA_CPP = "node-llama-cpp";
export const LLAMA_NODE = "@fugood/llama.node";

/** Tokens a second, while all streams decode and from start to end. */
export const SPEED = { decode: { unit: "tokens/s" }, wall: { unit: "tokens/s" } };

/** How often a process measures: small models need more for a steady number. */
export const repeats = (name, streams = 1) => (name === "125m-q4_0" ? (streams > 8 ? 1 : 2) : 5);

/**
 * @param {string} name of the model
 * @param {{ threads: number | "auto", streams?: number, layout?: "unified" | "split", prefixTokens?: number,
 *   tokens?: number, contextLength?: number, adapters?: string[], repeat?: number }} shape
 */
export function coldstart(name, shape) {
  const { threads, streams = 1, layout = "unified", prefixTokens = 0, tokens = 128, contextLength = CONTEXT } = shape;
  const { adapters = [], repeat = repeats(name, streams) } = shape;
  const own = contextLength + prefixTokens;
  // As much as the others have. In the unified layout a common beginning is kept once, and whoever computed it first.
  const unified = prefixTokens + contextLength * streams + (prefixTokens > 0 ? contextLength : 0);
  const capacity = layout === "split" ? own * streams : unified;
  return inChild("decode.coldstart.mjs", {
    model: model(name),
    load: { threads, contextLength: own, parallel: streams, kvCache: { layout, capacity } },
    streams,
    tokens,
    promptTokens: PROMPT,
    prefixTokens,
    adapters: adapters.map(model),
    repeat,
  });
}

export function nodeLlamaCpp(name, { threads, streams = 1, tokens = 128, contextLength = CONTEXT, repeat }) {
  return inChild("decode.node-llama-cpp.mjs", {
    model: model(name),
    threads,
    streams,
    tokens,
    promptTokens: PROMPT,
    contextLength,
    repeat: repeat ?? repeats(name, streams),
  });
}

export function llamaNode(name, { threads, tokens = 128, contextLength = CONTEXT }) {
  return inChild("decode.llama-node.mjs", {
    model: model(name),
    threads,
    tokens,
    promptTokens: PROMPT,
    contextLength,
    repeat: repeats(name),
  });
}

export function llamaServer(name, { threads, streams = 1, tokens = 128, contextLength = CONTEXT, adapters = [] }) {
  return inChild("decode.llama-server.mjs", {
    server: tool("llama-server"),
    model: model(name),
    threads,
    load: ["--parallel", String(streams), "-c", String(contextLength * streams)],
    adapters: adapters.map(model),
    streams,
    tokens,
    promptTokens: PROMPT,
    repeat: repeats(name, streams),
  });
}
