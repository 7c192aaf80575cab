// A machine that is not this one: files of /proc and /sys as they were recorded elsewhere.

import path from "node:path/posix";
import type { MachineFiles } from "../../lib/machine/files.js";

/**
 * @param files by full path
 * @param links symbolic links by full path, and where they lead
 */
export function recordedMachine(files: Record<string, string>, links: Record<string, string> = {}): MachineFiles {
  const paths = [...Object.keys(files), ...Object.keys(links)];
  return {
    read: (file) => files[file],
    list: (folder) => {
      const inside = paths.filter((file) => file.startsWith(`${folder}/`));
      return [...new Set(inside.map((file) => file.slice(folder.length + 1).split("/")[0]!))];
    },
    link: (file) => (links[file] === undefined ? undefined : path.basename(links[file])),
    exists: (file) => paths.some((known) => known === file || known.startsWith(`${file}/`)),
  };
}
