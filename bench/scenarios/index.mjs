// All scenarios, in the order in which they are measured and shown.

import abort from "./abort.mjs";
import adapters from "./adapters.mjs";
import blockedJs from "./blocked-js.mjs";
import busyNeighbour from "./busy-neighbour.mjs";
import coldStart from "./cold-start.mjs";
import embeddings from "./embeddings.mjs";
import kvLayout from "./kv-layout.mjs";
import longHistory from "./long-history.mjs";
import lookup from "./lookup.mjs";
import manyStreams from "./many-streams.mjs";
import multiTurn from "./multi-turn.mjs";
import quantize from "./quantize.mjs";
import rss from "./rss.mjs";
import sharedPrefix from "./shared-prefix.mjs";
import singleStream from "./single-stream.mjs";

/**
 * A scenario has a `name`, a `title`, what it is `about`, `cases(settings)` (see run/rounds.mjs; `rounds` there overrides
 * the usual number), and perhaps `skip()`, which resolves to the reason when it cannot be measured.
 */
export const scenarios = [
  singleStream,
  manyStreams,
  busyNeighbour,
  sharedPrefix,
  multiTurn,
  longHistory,
  blockedJs,
  abort,
  coldStart,
  lookup,
  rss,
  quantize,
  embeddings,
  adapters,
  kvLayout,
];
