// A process of Node.js that does nothing: what all others have on top of it.

import { peakMemory, report } from "./job.mjs";

await report({ memory: peakMemory() });
