export function missingTools(machine?: {
  platform?: NodeJS.Platform;
  has?: (command: string) => boolean;
  env?: NodeJS.ProcessEnv;
}): string[];
