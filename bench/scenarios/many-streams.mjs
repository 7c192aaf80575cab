import { atLeast } from "../report/targets.mjs";
import { llamaBatchedBench } from "../run/tools.mjs";
import { model } from "../setup/paths.mjs";
import { peers } from "../setup/peers.mjs";
import { coldstart, llamaServer, NODE_LLAMA_CPP, nodeLlamaCpp, repeats, SPEED } from "./contenders.mjs";

const TOOL = "llama-batched-bench";
const SERVER = "llama-server";

const CASES = [
  { name: "4m-f16", streams: 8, targets: [atLeast(0.85, TOOL, "decode"), atLeast(1.4, SERVER, "decode"), atLeast(2.5, NODE_LLAMA_CPP, "decode")] },
  { name: "4m-f16", streams: 32, targets: [atLeast(0.9, TOOL, "decode"), atLeast(1.25, SERVER, "decode")] },
  { name: "4m-f16", streams: 64, targets: [] },
  { name: "125m-q4_0", streams: 8, targets: [] },
  { name: "125m-q4_0", streams: 32, targets: [atLeast(0.97, TOOL, "decode"), atLeast(1.03, SERVER, "decode")] },
]; // prettier-ignore

export default {
  name: "many-streams",
  title: "Many streams",
  about:
    "As many answers of 128 tokens at the same time, each to a prompt of 16 of its own, one thread. llama-batched-bench does " +
    "not sample, and its streams are in step. `decode` is while all of them decode, `wall` from the first call to the last " +
    "token. llama-server is asked over HTTP and streams to a client on the same machine.",
  cases: () => CASES.map(oneCase),
};

function oneCase({ name, streams, targets }) {
  const shape = { threads: 1, streams };
  const tool = (unified) => llamaBatchedBench(model(name), { ...shape, unified, repeat: repeats(name, streams) });
  const others = streams === 8 ? peers({ [NODE_LLAMA_CPP]: () => nodeLlamaCpp(name, shape) }) : peers({});
  return {
    title: `${name}, ${streams} streams`,
    metrics: SPEED,
    contenders: {
      coldstart: () => coldstart(name, shape),
      "coldstart, split": () => coldstart(name, { ...shape, layout: "split" }),
      [TOOL]: () => tool(false),
      [`${TOOL} -kvu`]: () => tool(true),
      [SERVER]: () => llamaServer(name, shape),
      ...others.contenders,
    },
    absent: others.absent,
    targets,
  };
}
