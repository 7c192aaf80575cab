// The types of what requests have; what values there may be is checked where they are used. JSON Schema.

const nullable = (type: string) => ({ type: [type, "null"] });

const SAMPLING = {
  temperature: nullable("number"),
  top_p: nullable("number"),
  top_k: nullable("integer"),
  min_p: nullable("number"),
  typical_p: nullable("number"),
  repeat_penalty: nullable("number"),
  presence_penalty: nullable("number"),
  frequency_penalty: nullable("number"),
  logit_bias: { type: ["object", "null"], additionalProperties: { type: "number" } },
  seed: nullable("integer"),
  stop: { type: ["string", "array", "null"], items: { type: "string" } },
  grammar: nullable("string"),
  priority: nullable("integer"),
  stream: nullable("boolean"),
  stream_options: { type: ["object", "null"], properties: { include_usage: { type: "boolean" } } },
  n: nullable("integer"),
  max_tokens: nullable("integer"),
  response_format: {
    type: ["object", "null"],
    required: ["type"],
    properties: {
      type: { enum: ["text", "json_object", "json_schema"] },
      json_schema: { type: "object", properties: { schema: { type: "object" } } },
    },
  },
};

const FUNCTION = {
  type: "object",
  required: ["name"],
  properties: { name: { type: "string" }, description: { type: "string" }, parameters: { type: "object" } },
};

export const CHAT = {
  type: "object",
  required: ["messages"],
  properties: {
    ...SAMPLING,
    model: { type: "string" },
    messages: {
      type: "array",
      minItems: 1,
      items: {
        type: "object",
        required: ["role"],
        properties: {
          role: { type: "string" },
          content: { type: ["string", "array", "null"], items: { type: "object", required: ["type"] } },
          name: { type: "string" },
          reasoning_content: nullable("string"),
          tool_call_id: { type: "string" },
          tool_calls: {
            type: ["array", "null"],
            items: {
              type: "object",
              properties: {
                id: { type: "string" },
                function: {
                  type: "object",
                  properties: { name: { type: "string" }, arguments: { type: "string" } },
                },
              },
            },
          },
        },
      },
    },
    max_completion_tokens: nullable("integer"),
    logprobs: nullable("boolean"),
    top_logprobs: nullable("integer"),
    tools: { type: ["array", "null"], items: { type: "object", properties: { function: FUNCTION } } },
    tool_choice: {
      anyOf: [
        { enum: ["auto", "none", "required", null] },
        { type: "object", required: ["type"], properties: { function: FUNCTION } },
      ],
    },
    parallel_tool_calls: nullable("boolean"),
    reasoning_effort: nullable("string"),
    chat_template_kwargs: nullable("object"),
  },
};

const TEXTS_OR_TOKENS = {
  anyOf: [
    { type: "string" },
    { type: "array", items: { type: "string" } },
    { type: "array", items: { type: "integer" } },
    { type: "array", items: { type: "array", items: { type: "integer" } } },
  ],
};

export const COMPLETION = {
  type: "object",
  required: ["prompt"],
  properties: {
    ...SAMPLING,
    model: { type: "string" },
    prompt: TEXTS_OR_TOKENS,
    suffix: nullable("string"),
    echo: nullable("boolean"),
    logprobs: nullable("integer"),
  },
};

export const EMBEDDINGS = {
  type: "object",
  required: ["input"],
  properties: {
    model: { type: "string" },
    input: TEXTS_OR_TOKENS,
    encoding_format: { enum: ["float", "base64", null] },
    dimensions: nullable("integer"),
  },
};

export const RERANK = {
  type: "object",
  required: ["query", "documents"],
  properties: {
    model: { type: "string" },
    query: { type: "string" },
    documents: {
      type: "array",
      items: {
        anyOf: [{ type: "string" }, { type: "object", required: ["text"], properties: { text: { type: "string" } } }],
      },
    },
    top_n: nullable("integer"),
    return_documents: nullable("boolean"),
  },
};

export const TOKENIZE = {
  type: "object",
  required: ["prompt"],
  properties: {
    model: { type: "string" },
    prompt: { type: "string" },
    add_special_tokens: nullable("boolean"),
  },
};

export const DETOKENIZE = {
  type: "object",
  required: ["tokens"],
  properties: { model: { type: "string" }, tokens: { type: "array", items: { type: "integer" } } },
};
