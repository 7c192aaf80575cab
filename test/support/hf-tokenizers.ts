// Tokenizers in Hugging Face's formats, learned from a small text by the tests themselves.

export const TRAINING_TEXT = [
  "Once upon a time, there was a little girl named Mia. She didn't know why the sky's so blue; they've told her in 1998.",
  "The quick brown fox jumps over the lazy dog. 'I'LL be there,' he said, and WE'RE not. Été, naïve, 漢字, Привет мир!",
  "function add(a, b) {\n  return a + b;\n}\n\n\tfor (let i = 0; i < 12345; i++) x += 3.14;\n",
].join("\n");

/** GPT-2's characters for bytes (its encoder.py): printable ones stand for themselves. */
const BYTE_CHARACTERS: string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : 256 + others++));
})();

/** Merges the most frequent pairs of `words`, up to `count`. */
function learnMerges(words: string[][], count: number): [string, string][] {
  const merges: [string, string][] = [];
  for (let i = 0; i < count; i++) {
    const pairs = new Map<string, number>();
    for (const word of words)
      for (let at = 1; at < word.length; at++) {
        const pair = `${word[at - 1]!} ${word[at]!}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
      }
    const best = [...pairs].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (best === undefined || best[1] < 2) break;
    const [left, right] = best[0].split(" ") as [string, string];
    merges.push([left, right]);
    for (const word of words)
      for (let at = 1; at < word.length; at++)
        if (word[at - 1] === left && word[at] === right) word.splice(at - 1, 2, left + right);
  }
  return merges;
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const OTHERS = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const splitAt = (regex: string) => ({
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
});

/** As the models' own files have them. */
export const PRE_TOKENIZERS = {
  llama3: splitAt(String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|${OTHERS}`),
  qwen2: splitAt(String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|${OTHERS}`),
  tekken: splitAt(
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ),
  gpt2: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  smollm: {
    type: "Sequence",
    pretokenizers: [
      { type: "Digits", individual_digits: true },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    ],
  },
} as const;

export interface ByteLevelOptions {
  pre: keyof typeof PRE_TOKENIZERS;
  ignoreMerges?: boolean;
  /** Begins every text. */
  bos?: string;
  eos: string;
  normalizer?: unknown;
}

/** tokenizer.json of a byte-level tokenizer with about 340 tokens. */
export function byteLevelTokenizer({ pre, ignoreMerges = false, bos, eos, normalizer = null }: ByteLevelOptions) {
  const words = (TRAINING_TEXT.match(/ ?\p{L}+|\s+|[^\s\p{L}]/gu) ?? []).map((word) =>
    Array.from(Buffer.from(word), (byte) => BYTE_CHARACTERS[byte]!),
  );
  const merges = learnMerges(words, 80);
  const texts = new Set([...BYTE_CHARACTERS, ...merges.map((pair) => pair.join(""))]);
  const vocab = Object.fromEntries([...texts].map((text, id) => [text, id]));
  const added = [...(bos === undefined ? [] : [bos]), eos, "<tool_call>"].map((content, i) => ({
    id: texts.size + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: content !== "<tool_call>",
  }));
  const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer,
    pre_tokenizer: PRE_TOKENIZERS[pre] as unknown,
    post_processor:
      bos === undefined
        ? byteLevel
        : { type: "Sequence", processors: [byteLevel, beginningWith(bos, texts.size)] as unknown[] },
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab,
      merges: merges as unknown[],
    },
  };
}

function beginningWith(token: string, id: number) {
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

export interface Piece {
  text: string;
  score: number;
  type: number;
}

/** Pieces of a SentencePiece model: unknown, begin, end, 256 bytes, then characters and what they merge to. */
export function sentencePieces(): Piece[] {
  const text = TRAINING_TEXT.replaceAll(" ", "\u2581").replace(/[\n\t]/g, "\u2581");
  const words = (text.match(/\u2581?[^\u2581]+/g) ?? []).map((word) => Array.from(word));
  const characters = [...new Set(words.flat())].sort();
  const merged = new Set(learnMerges(words, 80).map((pair) => pair.join("")));
  return [
    { text: "<unk>", score: 0, type: 2 },
    { text: "<s>", score: 0, type: 3 },
    { text: "</s>", score: 0, type: 3 },
    ...Array.from({ length: 256 }, (_, byte) => ({
      text: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
      score: 0,
      type: 6,
    })),
    ...[...merged].map((piece, i) => ({ text: piece, score: -i, type: 1 })),
    ...characters.map((piece, i) => ({ text: piece, score: -1000 - i, type: 1 })),
  ];
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
  return Buffer.from([...bytes, value]);
}

function message(field: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

export interface SentencePieceOptions {
  modelType?: number;
  addDummyPrefix?: boolean;
  charsmap?: string;
}

/** tokenizer.model (sentencepiece_model.proto). */
export function sentencePieceModel(
  pieces: Piece[],
  { modelType = 2, addDummyPrefix = true, charsmap = "" }: SentencePieceOptions = {},
): Buffer {
  const float = (value: number) => Buffer.from(Float32Array.of(value).buffer);
  const encoded = pieces.map(({ text, score, type }) => {
    const rest = [varint(2 * 8 + 5), float(score), varint(3 * 8), varint(type)];
    return message(1, Buffer.concat([message(1, Buffer.from(text)), ...rest]));
  });
  const flags = Buffer.from([3 * 8, addDummyPrefix ? 1 : 0, 4 * 8, 0, 5 * 8, 1]);
  return Buffer.concat([
    ...encoded,
    message(2, Buffer.concat([varint(3 * 8), varint(modelType)])),
    message(3, Buffer.concat([message(1, Buffer.from("identity")), message(2, Buffer.from(charsmap)), flags])),
  ]);
}

/** tokenizer.json as transformers makes it of a SentencePiece model: all pairs of pieces, in the order of their results. */
export function sentencePieceJson(pieces: Piece[]) {
  const vocab = Object.fromEntries(pieces.map(({ text }, id) => [text, id]));
  const merges: [string, string][] = [];
  for (const { text } of pieces.filter(({ type }) => type === 1).sort((a, b) => b.score - a.score)) {
    const characters = Array.from(text);
    for (let at = 1; at < characters.length; at++) {
      const pair: [string, string] = [characters.slice(0, at).join(""), characters.slice(at).join("")];
      if (pair.every((part) => Object.hasOwn(vocab, part))) merges.push(pair);
    }
  }
  return {
    version: "1.0",
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "\u2581" },
        { type: "Replace", pattern: { String: " " }, content: "\u2581" },
      ],
    } as unknown,
    pre_tokenizer: null as unknown,
    post_processor: beginningWith("<s>", 1) as unknown,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges: merges as unknown[],
    },
  };
}
