import { readFile, writeFile } from "node:fs/promises";
import { writeAtomically } from "./atomic-file.js";
import type { AdapterChoice, AdapterUse } from "./adapters.js";
import type { Engine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import {
  checkGenerate,
  checkTokens,
  withoutSeed,
  type CheckedRequest,
  type GenerateOptions,
  type OptionsHost,
  type Prompt,
} from "./generate-options.js";
import { Generation } from "./generation.js";
import type { NativeFinished, NativeRequest } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";
import { prefill } from "./prefill.js";
import { checkState, decodeSnapshot, encodeSnapshot, isCheckable, type SnapshotOrigin } from "./snapshot.js";

/** What sessions need of their model. */
export interface SessionHost extends OptionsHost {
  engine: Engine;
  /** What snapshots of texts with these adapters are made with and must fit. Read from the files at the first call. */
  origin: (adapters: readonly AdapterUse[]) => Promise<SnapshotOrigin>;
}

export interface SessionOptions {
  /** What its text is computed with, where `generate()` is not told otherwise. Default: what the model was loaded with. */
  adapters?: readonly AdapterChoice[];
}

/**
 * A text that grows: a conversation, a document, a prompt to start from again and again.
 *
 * A session is its tokens. Their keys and values are kept in the KV cache as long as there is room for them, and computed
 * again when there was not: how long it takes depends on that, the results do not. It holds nothing that must be freed.
 */
export class Session {
  readonly #host: SessionHost;
  readonly #options: SessionOptions;
  #tokens: Int32Array;
  #busy = false;

  /** @internal Use `model.session()`. Throws `INVALID_OPTION`. */
  constructor(host: SessionHost, tokens: Int32Array, options: SessionOptions) {
    new OptionReader(options, ["adapters"]); // Refuses others.
    host.adapters.choose(options.adapters);
    this.#host = host;
    this.#options = options;
    this.#tokens = tokens;
  }

  /** The tokens so far. */
  get tokens(): number[] {
    return [...this.#tokens];
  }

  /** Number of tokens so far. */
  get length(): number {
    return this.#tokens.length;
  }

  /**
   * Adds to the text and computes its keys and values. A string that begins the session gets the tokens around it that the
   * model expects at a beginning.
   *
   * @returns the session's number of tokens
   *
   * Rejects with `INVALID_OPTION`, `TOKENIZE_FAILED`, `CONTEXT_OVERFLOW`, `QUEUE_FULL`, `DISPOSED`.
   */
  async append(prompt: Prompt, options: { parseSpecial?: boolean; signal?: AbortSignal } = {}): Promise<number> {
    new OptionReader(options, ["parseSpecial", "signal"]); // Refuses others.
    const { request, signal } = this.#check(prompt, options, withoutSeed(this.#host));
    await this.#exclusively(async () => {
      const { finished } = await this.#compute({ ...request, history: this.#tokens }, signal);
      this.#keep(finished);
    });
    return this.length;
  }

  /**
   * Continues the text, after adding `prompt` to it if given; what is generated becomes part of it, and so does what was
   * generated until a cancellation. One generation at a time. See `model.generate()`.
   */
  generate<T = unknown>(prompt?: Prompt, options: GenerateOptions<T> = {}): Generation<T> {
    this.#checkIdle();
    if (prompt === undefined && this.#tokens.length === 0) throw empty("continue");
    if (options.suffix !== undefined)
      throw invalidOption("suffix", options.suffix, "left out: what is filled in is no text that grows");
    // The last token stands for the prompt where there is none.
    const [history, checked] =
      prompt === undefined
        ? [this.#tokens.subarray(0, -1), this.#check(this.#tokens.subarray(-1), options)]
        : [this.#tokens, this.#check(prompt, options)];
    const request = { ...checked.request, history, reportTokens: true };
    const generation = new Generation<T>(this.#host.engine, { ...checked, request }, (finished) => {
      this.#busy = false;
      if (finished) this.#keep(finished);
    });
    this.#busy = true;
    return generation;
  }

  /** Another session with the same text so far, which costs next to nothing: both share what was computed. */
  fork(): Session {
    return new Session(this.#host, this.#tokens, this.#options);
  }

  /**
   * The session as bytes, with its keys and values, so that `restore()` does not have to compute them.
   *
   * Rejects with `UNSUPPORTED_MODEL` for recurrent models, whose states cannot be checked when they are read again: save
   * `tokens` instead.
   */
  async snapshot(): Promise<Uint8Array> {
    return this.#exclusively(async () => {
      if (this.#tokens.length === 0) throw empty("save");
      const tokens = this.#tokens;
      const [origin, state] = await Promise.all([this.#origin(), this.#save(tokens)]);
      return encodeSnapshot(origin, { tokens, state });
    });
  }

  /**
   * Makes this session the one that was saved. It is checked before llama.cpp sees it; a snapshot that is refused changes
   * nothing. Rejects with `INVALID_SNAPSHOT`.
   */
  async restore(snapshot: Uint8Array): Promise<void> {
    if (!(snapshot instanceof Uint8Array)) {
      throw new ColdstartError("INVALID_OPTION", "The snapshot is not a Uint8Array.", {
        remedy: "Give what snapshot() returned.",
      });
    }
    await this.#exclusively(async () => {
      const { engine, contextLength } = this.#host;
      const { tokens, state } = decodeSnapshot(snapshot, await this.#origin());
      if (tokens.length > contextLength) {
        throw new ColdstartError(
          "CONTEXT_OVERFLOW",
          `The snapshot has ${tokens.length} tokens, and the context length is ${contextLength}.`,
          {
            remedy: "Load the model with a larger contextLength.",
            details: { tokens: tokens.length, contextLength },
          },
        );
      }
      checkState(state, tokens.length, await this.#save(tokens.subarray(0, 1)));
      engine.restore(tokens, state, this.#adapters());
      this.#tokens = tokens;
    });
  }

  /** Writes `snapshot()` to a file: all of it or, when that fails, nothing. Rejects as that does, and with `WRITE_FAILED`. */
  async saveTo(file: string): Promise<void> {
    const bytes = await this.snapshot();
    await writeAtomically([file], ([partial = ""]) => writeFile(partial, bytes, { flag: "wx" }));
  }

  /** `restore()` from a file. */
  async loadFrom(file: string): Promise<void> {
    await this.restore(await readFile(file));
  }

  #adapters(): AdapterUse[] {
    return this.#host.adapters.choose(this.#options.adapters);
  }

  #origin(): Promise<SnapshotOrigin> {
    return this.#host.origin(this.#adapters());
  }

  #check(prompt: Prompt, options: GenerateOptions, host: OptionsHost = this.#host): CheckedRequest {
    const checked = checkGenerate(prompt, { ...this.#options, ...options }, host);
    if (checked.request.media.length === 0) return checked;
    throw invalidOption("prompt", prompt, "text or tokens: sessions have no images and no recordings");
  }

  #checkIdle(): void {
    if (!this.#busy) return;
    throw new ColdstartError("INVALID_OPTION", "The session is busy with another call.", {
      remedy: "Wait for it, or fork() the session before.",
    });
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    this.#checkIdle();
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  #keep({ tokens }: NativeFinished): void {
    if (tokens) this.#tokens = tokens;
  }

  /** The state of a sequence of these tokens. */
  async #save(tokens: Int32Array): Promise<Uint8Array> {
    const { request } = this.#check(checkTokens("tokens", tokens), {}, withoutSeed(this.#host));
    const { state } = await this.#compute({ ...request, snapshot: true });
    if (state === undefined || !isCheckable(state)) {
      throw new ColdstartError(
        "UNSUPPORTED_MODEL",
        "Sessions of this model cannot be saved: its state is not a plain KV cache.",
        {
          remedy: "Save the session's tokens, and append() them to a new session.",
        },
      );
    }
    return state;
  }

  async #compute(
    request: Omit<NativeRequest, "id">,
    signal?: AbortSignal,
  ): Promise<{ finished: NativeFinished; state: Uint8Array | undefined }> {
    const { finished, state } = await prefill(this.#host.engine, { ...request, reportTokens: true }, signal);
    if (finished.reason === "aborted") {
      throw new ColdstartError("ABORTED", "Computing the text was aborted.", {
        remedy: "Nothing was added to the session; what was computed is kept for another try.",
        cause: signal?.reason,
      });
    }
    return { finished, state };
  }
}

function empty(what: string): ColdstartError {
  return new ColdstartError("INVALID_OPTION", `The session is empty: there is nothing to ${what}.`, {
    remedy: "append() something first.",
  });
}
