import { atLeast } from "../report/targets.mjs";
import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { peers } from "../setup/peers.mjs";
import { tool } from "../setup/upstream.mjs";
import { NODE_LLAMA_CPP } from "./contenders.mjs";

const SERVER = "llama-server";
const MODEL = "minilm-f16";
const CASES = [
  { texts: 64, words: [4, 12], title: "64 short texts" },
  { texts: 64, words: [8, 60], title: "64 texts" },
  { texts: 256, words: [8, 60], title: "256 texts" },
];

export default {
  name: "embeddings",
  title: "Embeddings",
  about:
    "Texts of random words, in the shape of a sentence or a paragraph, by an encoder of random weights in the shape of " +
    "all-MiniLM-L6-v2 in F16, on all cores. coldstart and llama-server get all texts in one call; node-llama-cpp has calls for " +
    "one text, which are made at once. llama-server is asked over HTTP, with as many sequences as it takes.",
  cases: ({ cores, quick }) =>
    CASES.filter(({ texts }) => !quick || texts === 64).map(({ texts, words, title }) => {
      const job = { model: model(MODEL), threads: cores, texts, words, repeat: texts > 64 ? 1 : 5 };
      const others = peers({ [NODE_LLAMA_CPP]: () => inChild("embed.node-llama-cpp.mjs", job) });
      return {
        title: `${title} of ${words[0]} to ${words[1]} words, ${cores} threads`,
        metrics: { texts: { unit: "texts/s" } },
        contenders: {
          coldstart: () => inChild("embed.coldstart.mjs", job),
          [SERVER]: () =>
            inChild("embed.llama-server.mjs", {
              ...job,
              server: tool(SERVER),
              load: ["--embeddings", "--parallel", "64", "-c", String(64 * 512), "-b", "2048", "-ub", "2048"],
            }),
          ...others.contenders,
        },
        absent: others.absent,
        targets: [atLeast(4, NODE_LLAMA_CPP, "texts"), atLeast(1, SERVER, "texts")],
      };
    }),
};
