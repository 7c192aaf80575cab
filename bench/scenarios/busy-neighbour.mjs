import { atLeast } from "../report/targets.mjs";
import { besideBusyProcess } from "../run/child.mjs";
import { llamaBatchedBench, llamaBenchDecode } from "../run/tools.mjs";
import { model } from "../setup/paths.mjs";
import { peers } from "../setup/peers.mjs";
import { coldstart, NODE_LLAMA_CPP, nodeLlamaCpp } from "./contenders.mjs";

const NAME = "125m-q4_0";
const TOKENS = 64; // of an answer: a contender that collapses takes twenty times as long
const METRICS = { alone: { unit: "tokens/s" }, "beside a busy process": { unit: "tokens/s" }, kept: { unit: "share" } };

export default {
  name: "busy-neighbour",
  title: "Beside a busy process",
  about:
    "Decoding with as many threads as there are cores, alone and while another process keeps one core busy. Threads that " +
    "spin while they wait for one that is not running lose far more than the share of the other process. `kept` is the one " +
    "speed divided by the other. coldstart chooses its threads by itself (`auto`, the default).",
  cases: ({ cores }) => [1, 8].map((streams) => oneCase(streams, cores)),
};

function oneCase(streams, threads) {
  const shape = { threads, streams, tokens: TOKENS, repeat: streams === 1 ? 3 : 1 };
  const [tool, runTool] =
    streams === 1
      ? ["llama-bench", () => llamaBenchDecode(model(NAME), shape)]
      : ["llama-batched-bench", () => llamaBatchedBench(model(NAME), shape)];
  const others = peers({ [NODE_LLAMA_CPP]: twice(() => nodeLlamaCpp(NAME, shape)) });
  return {
    title: `${NAME}, ${streams === 1 ? "1 stream" : `${streams} streams`}, ${threads} threads`,
    metrics: METRICS,
    contenders: {
      coldstart: twice(() => coldstart(NAME, { ...shape, threads: "auto" })),
      [`coldstart, threads: ${threads}`]: twice(() => coldstart(NAME, shape)),
      [tool]: twice(runTool),
      ...others.contenders,
    },
    absent: others.absent,
    targets: [
      ...[tool, NODE_LLAMA_CPP].flatMap((other) => [
        atLeast(1, other, "alone"),
        atLeast(1, other, "beside a busy process"),
      ]),
      // The other process takes one of the cores. Two cores leave half, and half is not a collapse.
      { text: "coldstart keeps ≥ 0.5", value: (medianOf) => medianOf("coldstart", "kept"), met: (kept) => kept >= 0.5 },
    ],
  };
}

function twice(measure) {
  return async () => {
    const { decode: alone } = await measure();
    const { decode: beside } = await besideBusyProcess(measure);
    return { alone, "beside a busy process": beside, kept: beside / alone };
  };
}
