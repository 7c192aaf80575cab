// What is added to a model while it is loaded: LoRA adapters and control vectors.

import { resolve } from "node:path";
import type { Engine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import type { NativeAdapter } from "./native.js";
import { invalidOption, OptionReader, toPath } from "./options.js";

/** An adapter by its engine's number, and by how much it counts. */
export type AdapterUse = [id: number, scale: number];

/** An adapter, also by how much it counts: a scale from -100 to 100, default 1. */
export type AdapterChoice = Adapter | { adapter: Adapter; scale?: number };

/** An adapter that a model has loaded: `model.loadAdapter()` and `model.adapters` give them. */
export class Adapter implements AsyncDisposable {
  /** Of its file. */
  readonly path: string;
  /** A LoRA adapter adds to what matrices compute, a control vector to what layers give. */
  readonly kind: "lora" | "controlVector";
  /** Bytes of its weights. */
  readonly bytes: number;

  readonly #unload: () => Promise<void>;

  /** @internal Use `model.loadAdapter()`. */
  constructor(path: string, { kind, bytes }: NativeAdapter, unload: (adapter: Adapter) => Promise<void>) {
    this.path = path;
    this.kind = kind;
    this.bytes = bytes;
    this.#unload = () => unload(this);
  }

  /** Frees it, as soon as nothing that is under way uses it; then resolves. From the call on nothing new can use it. */
  unload(): Promise<void> {
    return this.#unload();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unload();
  }
}

/** Those of one model. */
export class Adapters {
  readonly #engine: Engine;
  /** Their numbers, in the order in which they were loaded. */
  readonly #loaded = new Map<Adapter, number>();
  readonly #unloading = new Map<Adapter, Promise<void>>();
  /** What is used where nothing else is asked for. */
  readonly #defaults = new Map<Adapter, number>();

  /** @param initial those that the model was loaded with, whose numbers are 1, 2, … */
  constructor(engine: Engine, initial: readonly (NativeAdapter & { path: string; scale: number })[]) {
    this.#engine = engine;
    for (const [i, one] of initial.entries()) this.#defaults.set(this.#add(one.path, i + 1, one), one.scale);
  }

  get all(): Adapter[] {
    return [...this.#loaded.keys()];
  }

  async load(file: unknown): Promise<Adapter> {
    const path = resolve(toPath(file, "path"));
    const { id, ...loaded } = await this.#engine.loadAdapter(path);
    return this.#add(path, id, loaded);
  }

  /** What an option `adapters` asks for. Throws `INVALID_OPTION`. */
  choose(value: unknown): AdapterUse[] {
    if (value === undefined) return [...this.#defaults].map(([adapter, scale]) => [this.#idOf(adapter), scale]);
    if (!Array.isArray(value)) throw invalidOption("adapters", value, "an array of adapters, or of { adapter, scale }");
    const uses = value.map((entry: unknown, i): AdapterUse => {
      const option = `adapters[${i}]`;
      if (entry instanceof Adapter) return [this.#check(entry, option), 1];
      const read = new OptionReader(entry, ["adapter", "scale"], `${option}.`);
      const id = this.#check(read.raw("adapter"), `${option}.adapter`);
      return [id, read.number("scale", { min: -100, max: 100 }, 1)];
    });
    const twice = uses.findIndex(([id], i) => uses.some(([other], k) => other === id && k < i));
    if (twice !== -1) throw invalidOption(`adapters[${twice}]`, this.#pathOf(uses[twice]), "each adapter once");
    return uses;
  }

  /** The files of what `choose()` gave, and by how much they count. */
  filesOf(uses: readonly AdapterUse[]): [path: string, scale: number][] {
    return uses.map((use) => [this.#pathOf(use), use[1]]);
  }

  #add(path: string, id: number, loaded: NativeAdapter): Adapter {
    const adapter = new Adapter(path, loaded, (one) => this.#unload(one));
    this.#loaded.set(adapter, id);
    return adapter;
  }

  #unload(adapter: Adapter): Promise<void> {
    const id = this.#loaded.get(adapter);
    if (id !== undefined) {
      this.#loaded.delete(adapter);
      this.#defaults.delete(adapter);
      this.#unloading.set(
        adapter,
        this.#engine.unloadAdapter(id).finally(() => this.#unloading.delete(adapter)),
      );
    }
    return this.#unloading.get(adapter) ?? Promise.resolve();
  }

  #check(value: unknown, option: string): number {
    const id = value instanceof Adapter ? this.#loaded.get(value) : undefined;
    if (id !== undefined) return id;
    if (!(value instanceof Adapter)) throw invalidOption(option, value, "what loadAdapter() gave");
    throw new ColdstartError("INVALID_OPTION", `${option} is ${value.path}, which this model has not loaded.`, {
      remedy: "Load it with this model's loadAdapter(), and use it before its unload().",
      details: { option, path: value.path },
    });
  }

  #idOf(adapter: Adapter): number {
    return this.#loaded.get(adapter) as number;
  }

  #pathOf(use: AdapterUse | undefined): string {
    return [...this.#loaded].find(([, id]) => id === use?.[0])?.[0].path ?? "";
  }
}
