import { atLeast } from "../report/targets.mjs";
import { coldstart, llamaServer, SPEED } from "./contenders.mjs";

const ONE = "coldstart, one adapter, one stream";
const TURNS = "coldstart, two adapters";
const SERVER = "llama-server, two adapters";

export default {
  name: "adapters",
  title: "Adapters by request",
  about:
    "Two answers of 128 tokens at the same time, each with a LoRA adapter of its own (rank 16, queries and values), one thread: they " +
    "take turns, so that a change of adapters comes before every step. Beside one stream with one adapter, which never changes: as many " +
    "tokens a second when a change costs nothing. And beside two streams with the same one, in one batch.",
  cases: () =>
    ["4m-f16", "125m-q4_0"].map((name) => {
      const adapters = [`${name}-lora-1`, `${name}-lora-2`];
      const two = { threads: 1, streams: 2, adapters };
      return {
        title: name,
        metrics: SPEED,
        contenders: {
          [TURNS]: () => coldstart(name, two),
          [ONE]: () => coldstart(name, { ...two, streams: 1, adapters: adapters.slice(0, 1) }),
          "coldstart, the same adapter": () => coldstart(name, { ...two, adapters: adapters.slice(0, 1) }),
          [SERVER]: () => llamaServer(name, two),
        },
        targets: [atLeast(0.85, ONE, "decode", TURNS), atLeast(1.1, SERVER, "wall", TURNS)],
      };
    }),
};
