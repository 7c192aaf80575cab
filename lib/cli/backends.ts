import { listBackends } from "../backends.js";
import { formatTable } from "./format.js";

export async function backends(options: { json?: boolean }): Promise<void> {
  const found = await listBackends();
  if (options.json) {
    console.log(JSON.stringify(found, null, 2));
    return;
  }
  const rows = found.map(({ name, status, devices, source }) => [name, status, devices.join(" "), source]);
  console.log(formatTable([["NAME", "STATUS", "DEVICES", "SOURCE"], ...rows]));
  for (const { name, path, reason } of found) {
    console.log(`\n${name}: ${path}`);
    if (reason !== undefined) console.log(`  ${reason}`);
  }
}
