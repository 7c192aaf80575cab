import { listDevices } from "../devices.js";
import { formatBytes, formatTable } from "./format.js";

export async function devices(options: { json?: boolean }): Promise<void> {
  const found = await listDevices();
  if (options.json) {
    console.log(JSON.stringify(found, null, 2));
    return;
  }
  const rows = found.map(({ name, backend, type, memoryFree, memoryTotal, description }) => [
    name,
    backend,
    type,
    formatBytes(memoryTotal),
    formatBytes(memoryFree),
    description,
  ]);
  console.log(formatTable([["NAME", "BACKEND", "TYPE", "MEMORY", "FREE", "DESCRIPTION"], ...rows]));
}
