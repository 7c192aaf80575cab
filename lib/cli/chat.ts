// `coldstart chat`: a conversation in the terminal.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { styleText } from "node:util";
import type { AnswerOptions } from "../chat/answer-options.js";
import type { Chat } from "../chat/chat.js";
import type { ChatMessage, UserMessage } from "../chat/messages.js";
import { ColdstartError } from "../errors.js";
import { loadModel } from "../load-model.js";
import type { MediaPart } from "../media.js";
import type { Model } from "../model.js";
import { Lines } from "./chat-lines.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { given } from "./given.js";
import { withProgress } from "./progress.js";
import { fetched } from "./pull.js";

export interface ChatFlags
  extends PlacementFlags, Pick<AnswerOptions, "maxTokens" | "temperature" | "topK" | "topP" | "minP" | "seed"> {
  system?: string;
  history?: string;
  chatTemplate?: string;
  thinkingBudget?: number;
  threads?: number;
  quiet?: boolean;
}

const HELP = `A line is a message. One that ends in \\ goes on in the next; """ begins and ends a message of several lines.
Ctrl+C ends an answer; Ctrl+D, or Ctrl+C on an empty line, the conversation.

/system [text]      how the model is to behave, or what was said of it
/set [name value]   an option of answers (temperature, topP, maxTokens, …), or all that are set
/image <file>       show an image with the next message; the model needs --mmproj
/audio <file>       play a recording with it
/retry              another answer to the last message
/undo               take the last message and its answer back
/clear              begin anew
/save <file>        write the conversation
/load <file>        go on from one
/usage              tokens of the last answer
/exit               end`;

export async function chat(path: string, flags: ChatFlags): Promise<void> {
  const { maxTokens, temperature, topK, topP, minP, seed, threads, thinkingBudget, system, history } = flags;
  const template = flags.chatTemplate;
  const chatTemplate = template !== undefined && existsSync(template) ? readFileSync(template, "utf8") : template;
  const messages = history === undefined ? [] : readMessages(history);
  const file = await fetched(path, flags.quiet === true, flags.mmproj);
  const model = await withProgress("Loading", flags.quiet === true, (progress) =>
    loadModel(file, { ...placementOf(flags), ...given({ threads }), ...progress }),
  );
  try {
    const thinking =
      thinkingBudget === undefined ? undefined : thinkingBudget === 0 ? false : { budget: thinkingBudget };
    const options = given({ maxTokens, temperature, topK, topP, minP, seed, chatTemplate, thinking });
    // Without a template nothing can be said.
    await model.renderChat([{ role: "user", content: "?" }], options);
    await new Conversation(model, options, messages, system).run();
  } finally {
    await model.dispose();
  }
}

class Conversation {
  readonly #model: Model;
  readonly #options: Record<string, unknown>;
  #chat: Chat;
  #answering: AbortController | undefined;
  #usage = "Nothing was answered yet.";
  #isOver = false;
  /** To be part of the next message. */
  readonly #attached: MediaPart[] = [];

  constructor(model: Model, options: AnswerOptions, messages: ChatMessage[], system: string | undefined) {
    this.#model = model;
    this.#options = { ...options };
    this.#chat = this.#start(messages);
    if (system !== undefined) this.#chat = this.#start(withSystem(messages, system));
  }

  async run(): Promise<void> {
    const isTerminal = process.stdin.isTTY && process.stdout.isTTY;
    const lines = new Lines();
    const input = createInterface({
      input: process.stdin,
      ...(isTerminal && { output: process.stdout }),
      terminal: isTerminal,
      historySize: 1000,
    });
    const interrupt = () => this.#interrupt(input, lines, isTerminal);
    input.on("SIGINT", interrupt);
    process.on("SIGINT", interrupt);
    const ask = () => {
      if (!isTerminal) return;
      input.setPrompt(lines.isOpen ? "… " : "> ");
      input.prompt();
    };
    try {
      if (isTerminal) console.error("/help says what can be said besides messages.");
      ask();
      for await (const line of input) {
        await this.#hear(lines.add(line));
        if (this.#isOver) break;
        ask();
      }
      if (!this.#isOver) await this.#hear(lines.end());
    } finally {
      process.off("SIGINT", interrupt);
      input.close();
    }
  }

  #start(messages: ChatMessage[]): Chat {
    return this.#model.chat({ ...this.#options, messages });
  }

  #interrupt(input: Interface, lines: Lines, isTerminal: boolean): void {
    if (this.#answering) {
      this.#answering.abort();
      return;
    }
    const isEmpty = !isTerminal || (input.line === "" && !lines.isOpen);
    if (isEmpty) {
      this.#isOver = true;
      input.close();
      return;
    }
    lines.clear();
    input.write(null, { ctrl: true, name: "u" });
    process.stdout.write("\n");
    input.setPrompt("> ");
    input.prompt();
  }

  async #hear(said: ReturnType<Lines["add"]>): Promise<void> {
    if (said === undefined) return;
    try {
      if (said.type === "message") await this.#say(this.#withAttached(said.text));
      else await this.#do(said.name, said.rest);
    } catch (error) {
      // The conversation goes on.
      if (!(error instanceof ColdstartError)) throw error;
      console.error(`${error.code}: ${error.message}`);
    }
  }

  /** What is said, with what was attached since the last message. */
  #withAttached(text: string): UserMessage["content"] {
    const attached = this.#attached.splice(0);
    return attached.length === 0 ? text : [...attached, { type: "text", text }];
  }

  async #say(content: UserMessage["content"]): Promise<void> {
    this.#answering = new AbortController();
    const started = performance.now();
    try {
      const message: UserMessage = { role: "user", content };
      const reply = this.#chat.send(message, { ...this.#options, signal: this.#answering.signal });
      let last = "";
      for await (const piece of reply) {
        if (piece.type !== "text" && piece.type !== "reasoning") continue;
        if (last === "reasoning" && piece.type === "text") process.stdout.write("\n\n");
        last = piece.type;
        process.stdout.write(piece.type === "reasoning" ? dim(piece.text) : piece.text);
      }
      process.stdout.write("\n");
      const { usage, finishReason, timings } = await reply.result;
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const speed = timings.tokensPerSecond === undefined ? "" : `, ${timings.tokensPerSecond.toFixed(0)} tokens/s`;
      this.#usage = `${usage.promptTokens} tokens read (${usage.cachedTokens} were known), ${usage.completionTokens} written in ${seconds} s${speed}; finish: ${finishReason}`;
    } finally {
      this.#answering = undefined;
    }
  }

  async #do(name: string, rest: string): Promise<void> {
    switch (name) {
      case "help":
      case "?":
        console.error(HELP);
        break;
      case "exit":
      case "quit":
      case "bye":
        this.#isOver = true;
        break;
      case "system":
        if (rest === "")
          console.error(this.#chat.messages.find((message) => message.role === "system")?.content ?? "(nothing)");
        else this.#chat = this.#start(withSystem(this.#chat.messages, rest));
        break;
      case "set":
        this.#set(rest);
        break;
      case "image":
      case "audio":
        if (existsSync(rest)) this.#attached.push({ type: name, path: resolve(rest) });
        else console.error(rest === "" ? `/${name} <file>` : `There is no file ${rest}.`);
        break;
      case "retry": {
        const content = this.#takeBack();
        if (content === undefined) console.error("There is no message to answer again.");
        else await this.#say(content);
        break;
      }
      case "undo":
        if (this.#takeBack() === undefined) console.error("There is nothing to take back.");
        break;
      case "clear":
        this.#chat = this.#start(this.#chat.messages.filter(({ role }) => role === "system"));
        break;
      case "save":
        if (rest === "") console.error("/save <file>");
        else writeFileSync(rest, `${JSON.stringify(this.#chat.messages, null, 2)}\n`);
        break;
      case "load":
        if (rest === "") console.error("/load <file>");
        else this.#chat = this.#start(readMessages(rest));
        break;
      case "usage":
        console.error(this.#usage);
        break;
      default:
        console.error(`There is no /${name}. /help says what there is.`);
    }
  }

  #set(rest: string): void {
    const [, name, value] = /^(\S+)\s+(.+)$/.exec(rest) ?? [];
    if (name === undefined || value === undefined) {
      const { chatTemplate: _, ...shown } = this.#options;
      console.error(JSON.stringify(shown));
      return;
    }
    const next = { ...this.#options, [name]: parseValue(value) };
    this.#model.chat(next); // Says what is wrong with it.
    this.#options[name] = next[name];
  }

  /** The last message of the user, which goes with all that came after it. */
  #takeBack(): UserMessage["content"] | undefined {
    const { messages } = this.#chat;
    const at = messages.findLastIndex(({ role }) => role === "user");
    const content = messages[at]?.content;
    if (content !== undefined) this.#chat.messages = messages.slice(0, at);
    return content;
  }
}

function withSystem(messages: readonly ChatMessage[], system: string): ChatMessage[] {
  return [{ role: "system", content: system }, ...messages.filter(({ role }) => role !== "system")];
}

function parseValue(value: string): unknown {
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

function readMessages(file: string): ChatMessage[] {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ChatMessage[];
  } catch (cause) {
    throw new ColdstartError("INVALID_OPTION", `${file} is no conversation: ${(cause as Error).message}.`, {
      remedy: "Give a file that /save has written.",
      details: { path: file },
      cause,
    });
  }
}

function dim(text: string): string {
  return process.stdout.isTTY ? styleText("dim", text) : text;
}
