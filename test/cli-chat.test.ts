// `coldstart chat`, with lines from a pipe and in a terminal.

import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { Lines, type Said } from "../lib/cli/chat-lines.js";
import type { ChatMessage } from "../lib/index.js";
import { root, TINY_STORIES } from "./support/models.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const COMMAND = [path.join(root, "dist/cli/main.js"), "chat", TINY_STORIES, "--chat-template", "chatml", "--seed", "3"];
/** Its chat has an end of text that the model may come upon; this one goes on. */
const ENDLESS = ["--max-tokens", "3000", "--threads", "1"];

class Running {
  out = "";
  err = "";
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<number | null>;

  constructor(program: string, args: string[]) {
    this.child = spawn(program, args);
    this.child.stdout.on("data", (data: Buffer) => (this.out += data.toString()));
    this.child.stderr.on("data", (data: Buffer) => (this.err += data.toString()));
    this.ended = new Promise((resolve) => this.child.once("close", (code) => resolve(code)));
  }

  /** Without what moves the cursor. */
  get plain(): string {
    // eslint-disable-next-line no-control-regex
    return this.out.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "");
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    for (let tries = 0; !condition(); tries++) {
      assert.ok(tries < 1000, `${what}: ${this.out} ${this.err}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

describe("coldstart chat", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();

  const talk = async (lines: string[], args: string[] = []) => {
    const running = new Running(process.execPath, [...COMMAND, "--max-tokens", "12", "--quiet", ...args]);
    running.child.stdin.end(lines.join("\n"));
    const code = await running.ended;
    return { code, out: running.out, err: running.err };
  };

  it("answers, and keeps what was said", async () => {
    const file = folder.path("saved.json");
    const { code, out, err } = await talk(
      ["Tell me one.", "/save " + file, "And \\", "then?", "/usage"],
      ["--system", "Be kind."],
    );
    assert.equal(code, 0, err);
    assert.match(err, /\d+ tokens read \(\d+ were known\), \d+ written/);
    const saved = JSON.parse(readFileSync(file, "utf8")) as ChatMessage[];
    assert.deepEqual(
      saved.map(({ role }) => role),
      ["system", "user", "assistant"],
    );
    assert.ok(out.startsWith(saved[2]?.content as string));

    const again = folder.path("again.json");
    const resumed = await talk(
      ['"""', "one", "two", '"""', "/undo", "Three", "/retry", "/save " + again],
      ["--history", file],
    );
    assert.equal(resumed.code, 0, resumed.err);
    const messages = JSON.parse(readFileSync(again, "utf8")) as ChatMessage[];
    assert.deepEqual(messages.slice(0, 3), saved);
    assert.deepEqual(
      messages.slice(3).map(({ role, content }) => (role === "user" ? content : role)),
      ["Three", "assistant"],
    );
  });

  it("takes options, and says what is wrong without ending", async () => {
    const lines = [
      "/set temperature 0",
      "/set maxTokens 3",
      "/set",
      "/set colour red",
      "/what",
      "/load none.json",
      "/system You",
      "/system",
      "/help",
      "Hi",
      "/clear",
      "/retry",
      "/exit",
      "Not said",
    ];
    const { code, out, err } = await talk(lines);
    assert.equal(code, 0, err);
    assert.match(err, /"temperature":0.*"maxTokens":3|"maxTokens":3.*"temperature":0/);
    assert.match(err, /INVALID_OPTION: .*colour/);
    assert.match(err, /There is no \/what/);
    assert.match(err, /none\.json is no conversation/);
    assert.match(err, /^You$/m);
    assert.match(err, /Ctrl\+D/);
    assert.match(err, /no message to answer again/);
    assert.equal(out.trim().split("\n").length, 1);
  });

  it("says at once when there is no template", async () => {
    const running = new Running(process.execPath, [...COMMAND.slice(0, 3), "--quiet"]);
    running.child.stdin.end("Hi\n");
    assert.equal(await running.ended, 1);
    assert.match(running.err, /no chat template.*chatml/);
  });

  it("ends an answer when it is interrupted, and not the conversation", async function () {
    if (process.platform === "win32") this.skip();
    const running = new Running(process.execPath, [...COMMAND, ...ENDLESS, "--quiet"]);
    const set = '/set logitBias {"2": -1000}\n/set overflow "shift"\n';
    running.child.stdin.write(`${set}Tell me one.\n`);
    await running.until(() => running.out.length > 40, "no answer");
    running.child.kill("SIGINT");
    await running.until(() => running.out.includes("\n"), "the answer does not end");
    running.child.stdin.write("/usage\n/set maxTokens 4\nAnd then?\n");
    await running.until(() => /\n.+\n$/.test(running.out), "no second answer");
    assert.match(running.err, /finish: aborted/);
    // While nothing is answered it ends the program. The first one may still find the end of that answer.
    const again = setInterval(() => running.child.kill("SIGINT"), 200);
    running.child.kill("SIGINT");
    assert.equal(await running.ended, 0);
    clearInterval(again);
  });

  it("is the same in a terminal, with Ctrl+C and Ctrl+D", async function () {
    if (spawnSync("script", ["--version"]).status !== 0) this.skip();
    const command = [process.execPath, ...COMMAND, ...ENDLESS, "--quiet"].join(" ");
    const running = new Running("script", ["-qec", command, "/dev/null"]);
    await running.until(() => running.out.includes("> "), "no prompt");
    running.child.stdin.write('/set logitBias {"2": -1000}\r');
    running.child.stdin.write('/set overflow "shift"\r');
    running.child.stdin.write("Tell me one.\r");
    const before = running.out.length;
    await running.until(() => running.out.length > before + 300, "no answer");
    running.child.stdin.write("\x03");
    await running.until(() => /\n> *$/.test(running.plain), "no prompt after the answer");
    running.child.stdin.write("forgotten\x03");
    running.child.stdin.write("/save " + folder.path("terminal.json") + "\r");
    await running.until(() => existsSync(folder.path("terminal.json")), "not saved");
    const saved = JSON.parse(readFileSync(folder.path("terminal.json"), "utf8")) as ChatMessage[];
    assert.deepEqual(
      saved.map(({ role }) => role),
      ["user", "assistant"],
    );
    running.child.stdin.write("\x04");
    assert.equal(await running.ended, 0);
  });
});

describe("lines of a conversation", () => {
  const read = (text: string): Said[] => {
    const lines = new Lines();
    const said = text.split("\n").map((line) => lines.add(line));
    return [...said, lines.end()].filter((one) => one !== undefined);
  };
  const message = (text: string): Said => ({ type: "message", text });

  it("are messages, several of them one, or commands", () => {
    assert.deepEqual(read("Hi\n\nthere  "), [message("Hi"), message("there")]);
    assert.deepEqual(read("a\\\nb\\\nc\nd"), [message("a\nb\nc"), message("d")]);
    assert.deepEqual(read('"""\na\n\n/b\n"""\nc'), [message("a\n\n/b"), message("c")]);
    assert.deepEqual(read('"""a\nb"""'), [message("a\nb")]);
    assert.deepEqual(read('"""a"""'), [message("a")]);
    assert.deepEqual(read("/set  x 1 \n/exit"), [
      { type: "command", name: "set", rest: "x 1" },
      { type: "command", name: "exit", rest: "" },
    ]);
    assert.deepEqual(read('"""\nnever ended'), [message("never ended")]);
  });

  it("lose nothing that is not a mark", () => {
    const word = fc.constantFrom("a", "b c", "", " x", "/y");
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (words) => {
        const text = words.join("\n").trim();
        assert.deepEqual(read(`"""\n${words.join("\n")}\n"""`), text === "" ? [] : [message(text)]);
      }),
    );
  });
});
