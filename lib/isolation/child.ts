// A process that does native work for this one (isolated-process.ts is what runs there).

import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { withResolvers } from "../engine.js";
import { ColdstartError } from "../errors.js";
import { forkScript } from "../fork-script.js";
import type { Worker } from "../workers/probe.js";
import { engineCrashed } from "./crash.js";
import { unpackError, type FromChild, type ToChild } from "./messages.js";

/** How long what it said last is waited for when it is gone, in milliseconds. */
const LAST_WORDS = 500;
/** Characters of them that are kept. */
const LAST_WORDS_LENGTH = 4096;

export interface ChildListener {
  /** Gets what is no answer to a call. */
  receive(message: FromChild): void;
  /** Called once, when the process is gone, with the reason. */
  end(error: ColdstartError): void;
}

export class Child {
  readonly #process: ChildProcess;
  readonly #workers: string[];
  readonly #listener: ChildListener;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  #nextCall = 1;
  #lastWords = "";
  #isBusy = true;
  #isExpectedToEnd = false;
  #lostWorkers: string[] | undefined;

  /** @param workers what it uses: whether one is gone is looked at when the process is */
  constructor(workers: Worker[], listener: ChildListener) {
    this.#workers = workers.map(({ endpoint }) => endpoint);
    this.#listener = listener;
    this.#process = forkScript("isolation/isolated-process", {
      serialization: "advanced",
      stdio: ["ignore", "inherit", "pipe", "ipc"],
    });
    this.#process.on("message", (message) => this.#receive(message as FromChild));
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      process.stderr.write(text);
      this.#lastWords = (this.#lastWords + text).slice(-LAST_WORDS_LENGTH);
    });
    this.#process.once("exit", (code, signal) => void this.#end(code, signal, undefined));
    this.#process.once("error", (error) => {
      if (this.#process.pid === undefined) void this.#end(null, null, error); // It was never there.
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  send(message: ToChild): void {
    // An error means that the process is gone, which "exit" tells too.
    this.#process.send(message, () => undefined);
  }

  /** Sends what `message` makes, and waits for the answer. */
  call<T>(message: (call: number) => ToChild): Promise<T> {
    const settled = withResolvers<unknown>();
    const call = this.#nextCall++;
    this.#calls.set(call, settled);
    this.send(message(call));
    this.#updateReference();
    return settled.promise as Promise<T>;
  }

  /** From now on its end is no crash. */
  expectEnd(): void {
    this.#isExpectedToEnd = true;
  }

  kill(): void {
    this.expectEnd();
    this.#process.kill("SIGKILL");
  }

  /** Ends it because these workers do not answer. */
  killForWorkers(endpoints: string[]): void {
    this.#lostWorkers = endpoints;
    this.#process.kill("SIGKILL");
  }

  /** Ends it after so many milliseconds, if it has not ended by itself. */
  killAfter(grace: number): void {
    const timer = setTimeout(() => this.kill(), grace).unref();
    this.#process.once("exit", () => clearTimeout(timer));
  }

  /** Whether it keeps this process alive; besides, calls without an answer do. */
  setBusy(isBusy: boolean): void {
    this.#isBusy = isBusy;
    this.#updateReference();
  }

  #receive(message: FromChild): void {
    if (message.type === "answer" || message.type === "refusal") {
      const call = this.#calls.get(message.call);
      this.#calls.delete(message.call);
      if (message.type === "answer") call?.resolve(message.value);
      else call?.reject(unpackError(message.error));
      this.#updateReference();
    } else {
      this.#listener.receive(message);
    }
  }

  async #end(code: number | null, signal: string | null, cause: Error | undefined): Promise<void> {
    // The system may tell of its end before what it said is read.
    const { stderr } = this.#process;
    const isRead = Promise.all([
      this.#process.connected && new Promise((resolve) => this.#process.once("disconnect", resolve)),
      stderr && !stderr.closed && new Promise((resolve) => stderr.once("close", resolve)),
    ]);
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([isRead, new Promise((resolve) => (timer = setTimeout(resolve, LAST_WORDS)))]);
    clearTimeout(timer);

    const error = this.#isExpectedToEnd
      ? new ColdstartError("DISPOSED", "The model was disposed.", { remedy: "Load it again." })
      : await engineCrashed({
          code,
          signal,
          cause,
          lastWords: this.#lastWords,
          workers: this.#workers,
          lostWorkers: this.#lostWorkers,
        });
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    this.#listener.end(error);
  }

  #updateReference(): void {
    const stderr = this.#process.stderr as Socket | null;
    for (const handle of [this.#process, this.#process.channel, stderr]) {
      if (this.#isBusy || this.#calls.size > 0) handle?.ref();
      else handle?.unref();
    }
  }
}
