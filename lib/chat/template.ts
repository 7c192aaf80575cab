// The chat templates of a model, and what they make of messages.

import type { Engine } from "../engine.js";
import { ColdstartError } from "../errors.js";
import type { ModelInfo } from "../model.js";
import { native, type NativeChatPrompt, type NativeChatTemplate } from "../native.js";

/** What is told a template (native/chat/chat_template.h). */
export interface TemplateRequest {
  messages: Record<string, unknown>[];
  tools: Record<string, unknown>[];
  toolChoice: "auto" | "required" | "none";
  parallelToolCalls: boolean;
  thinking: boolean;
  /** The last message is the beginning of the answer. */
  continue: boolean;
  variables: Record<string, unknown>;
  /** JSON, or empty. */
  schema: string;
  grammar: string;
}

interface SpecialTexts {
  bos: string;
  eos: string;
  /** Whether the vocabulary puts them around a text by itself. */
  addsBos: boolean;
  addsEos: boolean;
}

const MOST_KEPT = 4;

export class ChatTemplates {
  readonly #engine: Engine;
  readonly #info: ModelInfo;
  #special: Promise<SpecialTexts> | undefined;
  readonly #parsed = new Map<string, NativeChatTemplate>();

  /** What stands in prompts for images and recordings; empty: there can be none. */
  readonly mediaMarker: string;

  constructor(engine: Engine, info: ModelInfo, mediaMarker: string) {
    this.mediaMarker = mediaMarker;
    this.#engine = engine;
    this.#info = info;
  }

  /** The template for a chat, with tools or without. Throws `CHAT_TEMPLATE_FAILED`. */
  choose(given: string | undefined, withTools: boolean): string {
    const forTools = this.#info.metadata["tokenizer.chat_template.tool_use"];
    const own = withTools && typeof forTools === "string" ? forTools : this.#info.chatTemplate;
    const source = given ?? own;
    if (source !== undefined) return source;
    throw new ColdstartError("CHAT_TEMPLATE_FAILED", `${this.#info.path} has no chat template.`, {
      remedy: 'Give one with chatTemplate: Jinja, or "chatml"; or use generate() with a prompt of your own.',
      details: { path: this.#info.path },
    });
  }

  async render(source: string, request: TemplateRequest): Promise<NativeChatPrompt> {
    this.#special ??= this.#findSpecial();
    const { bos, eos, addsBos, addsEos } = await this.#special;
    let template = this.#parsed.get(source);
    if (template === undefined) {
      if (this.#parsed.size >= MOST_KEPT) this.#parsed.clear();
      template = new (native().ChatTemplate)(source, bos, eos);
      this.#parsed.set(source, template);
    }
    const prompt = await template.render(JSON.stringify(request));
    // What tokenizing adds again.
    if (addsBos && bos !== "" && prompt.text.startsWith(bos)) prompt.text = prompt.text.slice(bos.length);
    if (addsEos && eos !== "" && prompt.text.endsWith(eos)) prompt.text = prompt.text.slice(0, -eos.length);
    return prompt;
  }

  async #findSpecial(): Promise<SpecialTexts> {
    const { bos, eos } = this.#info.vocabulary;
    const text = (token: number | undefined) =>
      token === undefined ? "" : this.#engine.detokenize(Int32Array.of(token), true);
    const around = await this.#engine.tokenize("", true, false);
    return {
      bos: await text(bos),
      eos: await text(eos),
      addsBos: around[0] === bos && bos !== undefined,
      addsEos: around.at(-1) === eos && eos !== undefined && (eos !== bos || around.length > 1),
    };
  }
}
