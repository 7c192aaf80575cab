// The instruction sets that matter to llama.cpp: how Linux calls them, and how ggml does.

export interface InstructionSet {
  /** As it is shown. */
  name: string;
  /** What `/proc/cpuinfo` says of a processor that has it: all of these. */
  flags: readonly string[];
  /** ggml's name of it in a build that uses it; none where builds never do. */
  feature?: string;
  /** A build without it computes noticeably slower on a processor with it. */
  matters?: true;
}

const X64: readonly InstructionSet[] = [
  { name: "SSSE3", flags: ["ssse3"], feature: "SSSE3" },
  { name: "AVX", flags: ["avx"], feature: "AVX", matters: true },
  { name: "F16C", flags: ["f16c"], feature: "F16C", matters: true },
  { name: "FMA", flags: ["fma"], feature: "FMA", matters: true },
  { name: "BMI2", flags: ["bmi2"], feature: "BMI2" },
  { name: "AVX2", flags: ["avx2"], feature: "AVX2", matters: true },
  { name: "AVX-VNNI", flags: ["avx_vnni"], feature: "AVX_VNNI", matters: true },
  {
    name: "AVX-512",
    flags: ["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"],
    feature: "AVX512",
    matters: true,
  },
  { name: "AVX-512 VBMI", flags: ["avx512vbmi"], feature: "AVX512_VBMI", matters: true },
  { name: "AVX-512 VNNI", flags: ["avx512_vnni"], feature: "AVX512_VNNI", matters: true },
  { name: "AVX-512 BF16", flags: ["avx512_bf16"], feature: "AVX512_BF16", matters: true },
  { name: "AVX-512 FP16", flags: ["avx512_fp16"] },
  { name: "AMX INT8", flags: ["amx_tile", "amx_int8"], feature: "AMX_INT8", matters: true },
  { name: "AMX BF16", flags: ["amx_tile", "amx_bf16"] },
];

const ARM64: readonly InstructionSet[] = [
  { name: "NEON", flags: ["asimd"], feature: "NEON", matters: true },
  { name: "FP16", flags: ["asimdhp"], feature: "FP16_VA", matters: true },
  { name: "DotProd", flags: ["asimddp"], feature: "DOTPROD", matters: true },
  { name: "I8MM", flags: ["i8mm"], feature: "MATMUL_INT8", matters: true },
  { name: "BF16", flags: ["bf16"] },
  { name: "SVE", flags: ["sve"], feature: "SVE", matters: true },
  { name: "SVE2", flags: ["sve2"] },
  { name: "SME", flags: ["sme"], feature: "SME" },
  { name: "SME2", flags: ["sme2"], feature: "SME2" },
];

const RISCV64: readonly InstructionSet[] = [{ name: "RVV", flags: ["v"], feature: "RISCV_V", matters: true }];

/** Those of an architecture, in Node.js's names; none for others. */
export function instructionSetsOf(architecture: string): readonly InstructionSet[] {
  return { x64: X64, ia32: X64, arm64: ARM64, riscv64: RISCV64 }[architecture] ?? [];
}

/** The names of those that a processor with `flags` has. */
export function namesFromFlags(architecture: string, flags: ReadonlySet<string>): string[] {
  return instructionSetsOf(architecture)
    .filter((set) => set.flags.every((flag) => flags.has(flag)))
    .map(({ name }) => name);
}

/** The names of those that a build with ggml's `features` uses. */
export function namesFromFeatures(architecture: string, features: Readonly<Record<string, string>>): string[] {
  return instructionSetsOf(architecture)
    .filter(({ feature }) => feature !== undefined && (features[feature] ?? "0") !== "0")
    .map(({ name }) => name);
}
