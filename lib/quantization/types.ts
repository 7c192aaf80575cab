/**
 * What a whole model is quantized to: a mixture that llama.cpp chooses by the kind of each tensor. The number is about the
 * bits of a weight. `Q4_K_M` is the usual compromise; below 4 bits an importance matrix is worth its time, and
 * `IQ1_*`, `IQ2_*`, `IQ3_XXS`, `IQ3_XS` and `Q2_K_S` need one. docs/quantization.md compares them.
 */
// prettier-ignore
export type QuantizationType =
  | "Q1_0" | "Q2_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q8_0"
  | "Q2_K" | "Q2_K_S" | "Q3_K" | "Q3_K_S" | "Q3_K_M" | "Q3_K_L" | "Q4_K" | "Q4_K_S" | "Q4_K_M" | "Q5_K" | "Q5_K_S" | "Q5_K_M" | "Q6_K"
  | "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ2_M" | "IQ3_XXS" | "IQ3_XS" | "IQ3_S" | "IQ3_M" | "IQ4_NL" | "IQ4_XS"
  | "TQ1_0" | "TQ2_0" | "MXFP4_MOE" | "F16" | "BF16" | "F32";

/** @internal Those of llama-quantize (native/weights/recipe.cc). */
export const QUANTIZATION_TYPES = [
  "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
  "Q2_K", "Q2_K_S", "Q3_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K", "Q4_K_S", "Q4_K_M", "Q5_K", "Q5_K_S", "Q5_K_M", "Q6_K",
  "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS",
  "TQ1_0", "TQ2_0", "MXFP4_MOE", "F16", "BF16", "F32",
] as const satisfies readonly QuantizationType[]; // prettier-ignore
