// The models of a server, by the names that requests have.

import { ModelPool, type Model } from "../index.js";
import { apiError, RequestError } from "./errors.js";

/** A loaded model, or a pool of them. */
export type ServerSource = Model | ModelPool;

export class Models {
  readonly #source: ServerSource;
  readonly #alias: string | undefined;

  /** @param alias of one model: its name */
  constructor(source: ServerSource, alias: string | undefined) {
    this.#source = source;
    this.#alias = alias;
  }

  get names(): string[] {
    if (this.#source instanceof ModelPool) return this.#source.list().map(({ name }) => name);
    return [this.#alias ?? this.#source.info.name ?? this.#source.info.architecture];
  }

  /** Whether requests can be answered. */
  get isReady(): boolean {
    return this.#source instanceof ModelPool || !this.#source.disposed;
  }

  /** Runs `body` with a model, loaded. A server of one model takes a request without a name for it. Throws 404. */
  async use<T>(
    name: string | undefined,
    signal: AbortSignal,
    body: (model: Model, name: string) => Promise<T>,
  ): Promise<T> {
    const [only] = this.names;
    const wanted = name ?? (this.names.length === 1 ? only : undefined);
    if (wanted === undefined || !this.names.includes(wanted)) {
      const message = `There is no model ${wanted ?? "without a name"}. There are: ${this.names.join(", ")}.`;
      throw new RequestError(apiError(404, "model_not_found", message, { param: "model" }));
    }
    if (this.#source instanceof ModelPool) return this.#source.use(wanted, (model) => body(model, wanted), { signal });
    return body(this.#source, wanted);
  }
}
