// job: server, model, threads, load, turns, userTokens, tokens

import { conversation } from "./conversation.mjs";
import { job, report, words } from "./job.mjs";
import { startServer } from "./llama-server.mjs";

const server = await startServer();
await server.complete(words(16, 1), { tokens: 8, seed: 0 });
const times = await conversation(job, async (prompt, seed) => {
  const started = performance.now();
  const { tokens, arrivals } = await server.complete(prompt, { tokens: job.tokens, seed });
  return { first: arrivals[0][0] - started, tokens };
});
await server.stop();
await report(times);
