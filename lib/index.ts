/**
 * Large language models from zero to first token inside a Node.js or Electron process.
 *
 * @module coldstart
 */
export { Adapter, type AdapterChoice } from "./adapters.js";
export { listBackends, type Backend } from "./backends.js";
export { Answer, type AnswerResult } from "./chat/answer.js";
export type { AnswerOptions } from "./chat/answer-options.js";
export { Chat, Reply, type ChatOptions, type ReplyPiece, type ReplyResult, type SendOptions } from "./chat/chat.js";
export type { AnswerPiece } from "./chat/follow-answer.js";
export type {
  AssistantMessage,
  ChatMessage,
  SystemMessage,
  ToolCall,
  ToolMessage,
  UserMessage,
} from "./chat/messages.js";
export { defineTool, type Tool, type ToolContext } from "./chat/tools.js";
export type { Distribution } from "./metrics/histogram.js";
export type { ModelMetrics } from "./metrics/model-metrics.js";
export type { AudioPart, ContentPart, ImagePart, MediaPart, TextPart } from "./media.js";
export { listDevices, type Device } from "./devices.js";
export { ColdstartError, type ErrorCode } from "./errors.js";
export type { AnswersResult, AnswersTask, PromptWithAnswer } from "./evaluation/answers.js";
export type { ChoicesResult, ChoicesTask, Question } from "./evaluation/choices.js";
export {
  compareQuantizations,
  type CompareQuantizationsOptions,
  type QuantizationRow,
} from "./evaluation/compare-quantizations.js";
export { evaluate, type EvaluateOptions, type EvaluationResults, type EvaluationTask } from "./evaluation/evaluate.js";
export type { Items } from "./evaluation/items.js";
export type { Comparison, PerplexityResult, PerplexityTask } from "./evaluation/perplexity.js";
export type { Estimate } from "./evaluation/statistics.js";
export type { GenerateOptions, MixedPrompt, Prompt } from "./generate-options.js";
export {
  Generation,
  type FinishReason,
  type GenerationChunk,
  type GenerationResult,
  type TokenLogprob,
} from "./generation.js";
export {
  convertAdapter,
  type ConvertAdapterOptions,
  type ConvertAdapterResult,
} from "./huggingface/convert-adapter.js";
export { convertModel, type ConvertOptions, type ConvertResult } from "./huggingface/convert-model.js";
export { editMetadata, type EditOptions, type EditResult, type MetadataChanges } from "./gguf/edit-metadata.js";
export type { OutputType, PackedType, PlainType } from "./gguf/encode.js";
export { inspectGguf, type GgufInfo, type InspectOptions } from "./gguf/inspect-gguf.js";
export { mergeModel, type MergeOptions } from "./gguf/merge-model.js";
export type { MetadataInput } from "./gguf/metadata-values.js";
export type { WrittenFile } from "./gguf/output.js";
export { splitModel, type SplitOptions } from "./gguf/split-model.js";
export {
  verifyModel,
  type Problem,
  type TensorChecksum,
  type Verification,
  type VerifyOptions,
} from "./gguf/verify-model.js";
export type { WatchOptions } from "./gguf/watch.js";
export { inspectMachine, type InspectMachineOptions, type Machine } from "./inspect-machine.js";
export { loadModel } from "./load-model.js";
export type { ContainerFacts } from "./machine/container.js";
export type { CpuCache, CpuFacts } from "./machine/cpu.js";
export type { MemoryFacts } from "./machine/memory.js";
export type { NvidiaDriver, NvidiaGpu, ThrottleReason } from "./machine/nvidia.js";
export type { PciGpu } from "./machine/pci.js";
export type { AdapterOptions, KvCacheType, LoadMode, LoadOptions, SpeculativeOptions } from "./load-options.js";
export { Model, type ModelInfo, type ModelStatus, type Placement } from "./model.js";
export { planModel, type PlanOptions } from "./plan.js";
export type { DevicePlan, Plan } from "./placement/plan.js";
export type { MetadataArray, MetadataScalar, MetadataType, MetadataValue } from "./native.js";
export { computeImportance, type ImportanceOptions, type ImportanceResult } from "./quantization/compute-importance.js";
export {
  quantizeModel,
  type QuantizeDevice,
  type QuantizeOptions,
  type QuantizeResult,
} from "./quantization/quantize-model.js";
export type { QuantizationRecipe } from "./quantization/recipe.js";
export type { QuantizationType } from "./quantization/types.js";
export type { Score, ScoreOptions } from "./score.js";
export type { Embeddings, EmbedOptions, Pooling, RankedDocument, RerankOptions } from "./embed.js";
export { ModelPool } from "./pool/model-pool.js";
export type { Lease, PoolEntry, PoolEvents, PooledModel, PoolOptions, UnloadReason } from "./pool/model-pool.js";
export { pullModel } from "./hub/pull-model.js";
export type { PulledModel, PullOptions, PullProgress } from "./hub/pull-model.js";
export type { JsonSchema } from "./structured/json-schema.js";
export type { ResponseFormat } from "./structured/response-format.js";
export type { Schema, StandardJsonSchema, StandardResult } from "./structured/schema.js";
export { Session, type SessionOptions } from "./session.js";
export { Streamed } from "./streamed.js";
export { version, type Versions } from "./version.js";
