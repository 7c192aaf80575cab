// job: server, model, threads, load, requests, prefixTokens, promptTokens, tokens; all requests are made at once

import { median } from "../report/stats.mjs";
import { job, report, words } from "./job.mjs";
import { startServer } from "./llama-server.mjs";

const server = await startServer();
await server.complete(words(16, 1), { tokens: 8, seed: 0 });

const prefix = words(job.prefixTokens, 0);
const started = performance.now();
const answers = await Promise.all(
  Array.from({ length: job.requests }, (_, i) =>
    server.complete([...prefix, ...words(job.promptTokens, 2 + i)], { tokens: job.tokens, seed: i }),
  ),
);
const all = performance.now() - started;
await server.stop();
await report({ "first token": median(answers.map(({ arrivals }) => arrivals[0][0] - started)), "all answers": all });
