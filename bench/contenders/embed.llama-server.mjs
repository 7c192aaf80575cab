// job: server (its binary), model, threads, load (its arguments), texts, words (fewest and most of a text), repeat

import { measure } from "./embed.mjs";
import { startServer } from "./llama-server.mjs";

const server = await startServer();
await measure(
  (texts) => server.embed(texts),
  () => server.stop(),
);
