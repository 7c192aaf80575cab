import { verifyModel } from "../gguf/verify-model.js";
import { EXIT } from "./exit-codes.js";
import { formatBytes } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface VerifyFlags {
  manifest?: string;
  json?: boolean;
  quiet?: boolean;
}

export async function verify(model: string, { manifest, json = false, quiet = false }: VerifyFlags): Promise<void> {
  const result = await interruptible((signal) =>
    withProgress("Verifying", quiet || json, (progress) =>
      verifyModel(model, { ...given({ manifest }), ...progress, signal }),
    ),
  );
  const { ok, problems, files, tensors } = result;
  if (!ok) process.exitCode = EXIT.failure;
  if (json) {
    console.log(JSON.stringify(result, null, 2));
    return;
  }
  // As sha256sum writes them, so that this is a manifest for it, and for --manifest.
  if (!quiet) for (const { path, sha256 } of files) console.log(`${sha256}  ${path}`);
  for (const { message } of problems) console.error(message);
  if (quiet) return;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const found = ok ? "nothing is wrong" : `${problems.length} ${problems.length === 1 ? "problem" : "problems"}`;
  console.error(`${tensors.length} tensors, ${formatBytes(bytes)}: ${found}.`);
}
