/** The pin of package.json. */
export interface Pin {
  release: string;
  package: string;
  version: string;
  integrity: string;
  bundle: string;
  repository: string;
}
export function readPin(): Pin;
export function installedRelease(directory: string): string | undefined;
export function ensureLlamaCpp(options?: {
  pin?: Pin;
  directory?: string;
  patchFolder?: string;
  repository?: string | undefined;
  log?: (line: string) => void;
}): Promise<"present" | "fetched">;
export const packedSourceMark: {
  file: string;
  content(release?: string, patchFolder?: string): string;
};
