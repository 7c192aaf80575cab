// What is typed in `coldstart chat`: lines that are messages, parts of messages, or commands. Pure.

export type Said = { type: "message"; text: string } | { type: "command"; name: string; rest: string };

const BLOCK = '"""';

/** Puts lines together: one that ends in a backslash goes on in the next, and what is between lines of """ is one message. */
export class Lines {
  #parts: string[] = [];
  #isBlock = false;

  /** Whether more has to come. */
  get isOpen(): boolean {
    return this.#isBlock || this.#parts.length > 0;
  }

  /** What is said with this line; undefined: nothing yet. */
  add(line: string): Said | undefined {
    if (this.#isBlock) {
      if (!line.trimEnd().endsWith(BLOCK)) {
        this.#parts.push(line);
        return undefined;
      }
      this.#parts.push(line.trimEnd().slice(0, -BLOCK.length));
      return this.#take();
    }
    if (!this.isOpen && line.startsWith(BLOCK)) {
      this.#isBlock = true;
      const rest = line.slice(BLOCK.length);
      if (rest.trim() !== "") return this.add(rest);
      return undefined;
    }
    if (!this.isOpen && line.startsWith("/")) {
      const [, name = "", rest = ""] = /^\/(\S*)\s*(.*)$/.exec(line) ?? [];
      return { type: "command", name, rest: rest.trim() };
    }
    if (line.endsWith("\\")) {
      this.#parts.push(line.slice(0, -1));
      return undefined;
    }
    this.#parts.push(line);
    return this.#take();
  }

  /** Forgets what was begun. */
  clear(): void {
    this.#parts = [];
    this.#isBlock = false;
  }

  /** What was begun, at the end of the input. */
  end(): Said | undefined {
    return this.isOpen ? this.#take() : undefined;
  }

  #take(): Said | undefined {
    const text = this.#parts.join("\n").trim();
    this.clear();
    return text === "" ? undefined : { type: "message", text };
  }
}
