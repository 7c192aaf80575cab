// Images and recordings, by projectors of random weights: there is no real one here. What generations give is compared with
// llama-server's, of the same pin, over the same files.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  loadModel,
  planModel,
  type ChatMessage,
  type ContentPart,
  type LoadOptions,
  type MediaPart,
  type Model,
} from "../lib/index.js";
import { chooseProjector } from "../lib/mmproj.js";
import { coldstartError } from "./support/errors.js";
import { writeGguf, readGgufForRewrite } from "./support/gguf-writer.js";
import { withLlamaServer } from "./support/llama-server.js";
import { root, TINY_STORIES, withModel } from "./support/models.js";
import { F32, randomModel, type Shape } from "./support/random-model.js";
import { randomPicture, randomProjector, randomRecording, type ProjectorKind } from "./support/random-projector.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const SHAPE: Shape = {
  type: F32, vocabulary: 512, width: 64, feedForward: 128, layers: 2, heads: 4, keyValueHeads: 2, contextLength: 4096, tied: false,
}; // prettier-ignore

/** The same model as one of Qwen2-VL's architecture, whose positions have three dimensions. */
function qwen2vlOf(llama: Buffer): Buffer {
  const draft = readGgufForRewrite(llama);
  const metadata = draft.metadata.map((entry) => {
    const key = (entry.key as string).replace(/^llama\./, "qwen2vl.");
    return key === "general.architecture" ? { ...entry, value: "qwen2vl" } : { ...entry, key };
  });
  metadata.push({ key: "qwen2vl.rope.dimension_sections", type: "array", elementType: "int32", values: [4, 2, 2, 0] });
  return writeGguf({ metadata: metadata as never, tensors: draft.tensors });
}

const KINDS: Record<ProjectorKind, { text: "llama" | "qwen2vl"; part: MediaPart["type"] }> = {
  mlp: { text: "llama", part: "image" },
  gemma3: { text: "llama", part: "image" },
  qwen2vl_merger: { text: "qwen2vl", part: "image" },
  ultravox: { text: "llama", part: "audio" },
};

describe("images and recordings", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();

  const llama = randomModel(SHAPE);
  beforeEach(() => {
    writeFileSync(folder.path("llama.gguf"), llama);
    writeFileSync(folder.path("qwen2vl.gguf"), qwen2vlOf(llama));
    for (const kind of Object.keys(KINDS) as ProjectorKind[])
      writeFileSync(folder.path(`${kind}.gguf`), randomProjector(kind, SHAPE.width));
  });

  const load = (kind: ProjectorKind, more: LoadOptions = {}): LoadOptions & { path: string } => ({
    path: folder.path(`${KINDS[kind].text}.gguf`),
    mmproj: folder.path(`${kind}.gguf`),
    contextLength: 1536,
    ...more,
  });
  const pictures = [randomPicture(64, 48, 1), randomPicture(200, 120, 2), randomPicture(57, 57, 3)];
  const recordings = [randomRecording(0.5, 1), randomRecording(2, 2, 8000), randomRecording(1.3, 3)];
  const partsOf = (kind: ProjectorKind): MediaPart[] =>
    (KINDS[kind].part === "image" ? pictures : recordings).map((data) => ({ type: KINDS[kind].part, data }));
  const generate = async (model: Model, prompt: (string | ContentPart)[], maxTokens = 12) => {
    const { tokens, usage } = await model.generate(prompt, { temperature: 0, maxTokens }).result;
    return { tokens, usage };
  };

  /** What llama-server generates, and how many tokens it reads. */
  async function ask(url: string, prompt: (string | MediaPart)[], tokens = 12) {
    const { media_marker: marker } = (await (await fetch(`${url}/props`)).json()) as { media_marker: string };
    const body = {
      prompt: {
        prompt_string: prompt.map((part) => (typeof part === "string" ? part : marker)).join(""),
        multimodal_data: prompt.flatMap((part) =>
          typeof part === "string" ? [] : [Buffer.from(part.data as Uint8Array).toString("base64")],
        ),
      },
      n_predict: tokens,
      temperature: 0,
      top_k: 1,
      return_tokens: true,
      cache_prompt: false,
    };
    const response = await fetch(`${url}/completion`, { method: "POST", body: JSON.stringify(body) });
    const answer = (await response.json()) as { tokens: number[]; tokens_evaluated: number };
    return { tokens: answer.tokens, read: answer.tokens_evaluated };
  }

  for (const kind of Object.keys(KINDS) as ProjectorKind[]) {
    it(`generates what llama-server does: ${kind}`, async () => {
      const [one, two, three] = partsOf(kind) as [MediaPart, MediaPart, MediaPart];
      const prompts: (string | MediaPart)[][] = [
        ["a b c ", one, " d e"],
        [two, "f g h"],
        ["a ", three, one, " i ", two, " j"],
      ];
      const { path: model, mmproj } = load(kind);
      const args = ["--mmproj", mmproj as string, "-c", "1536", "--no-mmproj-offload"];
      const expected: Awaited<ReturnType<typeof ask>>[] = [];
      await withLlamaServer(model, args, async (url) => {
        for (const prompt of prompts) expected.push(await ask(url, prompt));
      });
      const lookup = { speculative: { type: "lookup" as const } };
      for (const more of [{}, { deterministic: true }, { kvCache: { layout: "split" as const } }, lookup]) {
        await withModel(load(kind, { parallel: 4, ...more }), async (model) => {
          assert.deepEqual([model.info.images, model.info.audio], [kind !== "ultravox", kind === "ultravox"]);
          // All at once, then again, with what is known.
          for (let round = 0; round < 2; round++) {
            const given = await Promise.all(prompts.map((prompt) => generate(model, prompt)));
            given.forEach(({ tokens, usage }, i) => {
              assert.deepEqual(tokens, expected[i]?.tokens, `${kind}, prompt ${i}, round ${round}`);
              assert.equal(usage.promptTokens, expected[i]?.read);
            });
          }
        });
      }
    });
  }

  it("uses a picture again that it has read, and no other", async () => {
    for (const kind of ["mlp", "gemma3", "qwen2vl_merger"] as const) {
      await withModel(load(kind), async (model) => {
        const [one, two] = partsOf(kind) as [MediaPart, MediaPart];
        const cached = async (prompt: (string | MediaPart)[]) => {
          const { usage } = await generate(model, prompt, 1);
          return [usage.cachedTokens, usage.promptTokens] as const;
        };
        const [none, all] = await cached(["a b ", one, " c d"]);
        assert.equal(none, 0);
        assert.deepEqual(await cached(["a b ", one, " c d"]), [all - 1, all]);
        const [before] = await cached(["a b ", two, " c d"]);
        const text = (await model.tokenize("a b ")).length;
        // Up to the picture: some have text of their own in front of it.
        assert.ok(before >= text && before < all - 4, `${before} of ${all}`);
        // One that the prompt ends with is computed again, whole: what follows is sampled from its last row.
        const [known, length] = await cached(["a b ", one]);
        assert.ok(known >= before && known < length);
        if (kind === "mlp") assert.equal(known, before);
      });
    }
  });

  it("goes on from a picture that the prompt ends with, however it is computed", async () => {
    const ends = ["ends with it ", partsOf("mlp")[1]!];
    const given: number[][] = [];
    // 16 rows: in one step, in two, and in a pool of their own.
    for (const more of [{}, { batchSize: 9, parallel: 1 }, { deterministic: true }]) {
      await withModel(load("mlp", more), async (model) => {
        for (let round = 0; round < 2; round++) given.push((await generate(model, ends)).tokens);
      });
    }
    for (const tokens of given) assert.deepEqual(tokens, given[0]);
    await withModel(load("mlp"), async (model) => {
      assert.notDeepEqual((await generate(model, ["ends with it "])).tokens, given[0]);
      assert.notDeepEqual((await generate(model, ["ends with it ", partsOf("mlp")[0]!])).tokens, given[0]);
    });
  });

  it("goes on with others' streams while a picture is read, and gives up when nobody wants it", async () => {
    await withModel(load("mlp", { parallel: 4 }), async (model) => {
      const [part] = partsOf("mlp") as [MediaPart];
      const alone = (await generate(model, ["x y z"], 60)).tokens;
      const running = generate(model, ["x y z"], 60);
      const aborted = model.generate(["a ", part, " b"], { signal: AbortSignal.timeout(1), maxTokens: 200 });
      const many = Array.from(
        { length: 12 },
        (_, i) =>
          model.generate([`${"abcdefghijkl"[i]} `, partsOf("mlp")[i % 3]!, " b"], { maxTokens: 8, temperature: 0 })
            .result,
      );
      await aborted.result;
      for (const { tokens } of await Promise.all(many)) assert.equal(tokens.length, 8);
      assert.deepEqual((await running).tokens, alone);
      const cancelled = model.generate(["q ", part], { maxTokens: 5 });
      cancelled.cancel();
      assert.equal((await cancelled.result).finishReason, "aborted");
    });
    // Disposed while it is encoded.
    const model = await loadModel(folder.path("llama.gguf"), { threads: 1, mmproj: folder.path("mlp.gguf") });
    const generation = model.generate(["a ", ...partsOf("mlp"), " b"], { maxTokens: 5 });
    await model.dispose();
    await assert.rejects(generation.result, coldstartError("DISPOSED"));
  });

  it("is part of what users say in chats, whose history is plain data, also in a process of its own", async () => {
    for (const isolation of ["none", "process"] as const) {
      await withModel(load("mlp", { isolation }), async (model) => {
        const file = folder.path("picture.bmp");
        writeFileSync(file, pictures[0]!);
        const options = { chatTemplate: "chatml", temperature: 0, maxTokens: 6 };
        const chat = model.chat({ ...options, system: "s" });
        const content: ContentPart[] = [
          { type: "image", path: file },
          { type: "text", text: "what is it" },
        ];
        const first = await chat.send({ role: "user", content }).result;
        const second = await chat.send("and now").result;
        assert.ok(second.usage.cachedTokens >= first.usage.promptTokens - 1, "the picture is not read again");
        const messages = JSON.parse(JSON.stringify(chat.messages)) as ChatMessage[];
        const asBytes = structuredClone(messages);
        asBytes[1] = { role: "user", content: [{ type: "image", data: pictures[0]! }, content[1]!] };
        const inBase64 = structuredClone(messages);
        inBase64[1] = {
          role: "user",
          content: [{ type: "image", data: pictures[0]!.toString("base64") }, content[1]!],
        };
        for (const history of [messages, asBytes, inBase64]) {
          const again = await model.answer(history.slice(0, 2), options).result;
          assert.equal(again.message.content, first.message.content);
        }
        const other = await model.answer(
          [messages[0]!, { role: "user", content: [{ type: "image", data: pictures[1]! }, content[1]!] }],
          options,
        ).result;
        assert.equal(other.usage.promptTokens, first.usage.promptTokens);
        const text = await model.renderChat([{ role: "user", content: [content[1]!, content[0]!] }], {
          chatTemplate: "chatml",
        });
        assert.match(text, /what is it.*<__media_[0-9a-f]{32}__>/s);
      });
    }
  });

  it("says what is wrong with media, and goes on", async () => {
    await withModel(load("mlp"), async (model) => {
      const fails = async (part: unknown, ...expected: Parameters<typeof coldstartError>) => {
        await assert.rejects(generate(model, ["a ", part as ContentPart, " b"]), coldstartError(...expected));
      };
      const image = (data: Uint8Array) => ({ type: "image", data });
      const png = Buffer.from(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "base64",
      );
      await generate(model, ["a ", { type: "image", data: png }, " b"]);
      await fails(image(Buffer.from("no picture")), "INVALID_MEDIA", /media\[0\] is no picture/);
      await fails(image(new Uint8Array()), "INVALID_MEDIA", /is no picture/);
      await fails(image(pictures[0]!.subarray(0, 60)), "INVALID_MEDIA", /is cut/);
      await fails(image(png.subarray(0, 45)), "INVALID_MEDIA", /is cut/);
      await fails(image(recordings[0]!), "INVALID_MEDIA", /is a recording, and not an image/);
      await fails({ type: "audio", data: recordings[0]! }, "UNSUPPORTED_MODEL", /reads no recordings/);
      await fails({ type: "image", path: folder.path("none.png") }, "INVALID_MEDIA", /none\.png\) could not be opened/);
      const huge = Buffer.from(pictures[0]!);
      huge.writeInt32LE(60_000, 18);
      huge.writeInt32LE(60_000, 22);
      await fails(image(huge), "INVALID_MEDIA", /60000 × 60000 pixels/);
      for (const part of [
        { type: "video", data: png },
        { type: "image" },
        { type: "image", data: png, path: "x" },
        { type: "image", data: "%" },
        { type: "image", data: 7 },
        { type: "image", path: "" },
        { type: "text" },
        { type: "image", data: png, detail: "low" },
        7,
      ])
        // prettier-ignore
        assert.throws(() => model.generate(["a ", part as never]), coldstartError("INVALID_OPTION", /prompt\[1\]/));
      assert.throws(
        () => model.session().generate(["a ", image(png)] as never),
        coldstartError("INVALID_OPTION", /sessions/),
      );
      await assert.rejects(
        model.generate(["a ".repeat(400), ...partsOf("mlp")], { overflow: "truncateMiddle" }).result,
        coldstartError("CONTEXT_OVERFLOW", /nothing is left out/),
      );
      assert.equal((await generate(model, ["a b c"])).tokens.length, 12);
    });
    await withModel(load("gemma3", { batchSize: 3, parallel: 1 }), async (model) => {
      const [part] = partsOf("gemma3") as [MediaPart];
      await assert.rejects(
        generate(model, ["a ", part]),
        coldstartError("INVALID_MEDIA", /takes 4 tokens.*batchSize is 3/),
      );
    });
    await withModel(load("ultravox"), async (model) => {
      const fails = (data: Uint8Array, message: RegExp) =>
        assert.rejects(generate(model, ["a ", { type: "audio", data }]), coldstartError("INVALID_MEDIA", message));
      await fails(pictures[0]!, /is no recording/);
      await fails(randomRecording(0.005, 1), /less than 10 ms/);
      await fails(Buffer.from("fLaC and nothing else"), /could not be decoded/);
      // A file of 46 bytes that says it has 2 GB of samples.
      const liar = Buffer.from(recordings[0]!.subarray(0, 46));
      liar.writeUInt32LE(0x7fffffff, 40);
      await fails(liar, /less than 10 ms|could not be decoded/);
    });
    await withModel({ path: folder.path("llama.gguf") }, async (model) => {
      const message: ChatMessage = { role: "user", content: [{ type: "image", data: pictures[0]! }] };
      await assert.rejects(
        model.chat({ chatTemplate: "chatml" }).send(message).result,
        coldstartError("UNSUPPORTED_MODEL", /loaded without one.*mmproj/),
      );
      assert.throws(() => model.generate(partsOf("mlp")), coldstartError("UNSUPPORTED_MODEL", /mmproj/));
    });
  });

  it("reads pictures and recordings of any size, and survives bytes that are damaged", async () => {
    for (const kind of ["mlp", "qwen2vl_merger", "ultravox"] as const) {
      await withModel(load(kind, { contextLength: 4096 }), async (model) => {
        const sizes = [1, 2, 13, 14, 28, 29, 333, 1000];
        const files =
          kind === "ultravox"
            ? [0.01, 0.011, 0.3, 29.99, 30, 30.01, 45].map((seconds) => randomRecording(seconds, 1))
            : sizes.flatMap((width) => [1, 57, 640].map((height) => randomPicture(width, height, 1)));
        const part = KINDS[kind].part;
        for (const data of files) {
          const { tokens } = await generate(model, ["a ", { type: part, data }, " b"], 2).catch((error: unknown) => {
            // Shapes that the model's own rules refuse.
            assert.ok(coldstartError("INVALID_MEDIA")(error));
            return { tokens: [0, 0] };
          });
          assert.equal(tokens.length, 2);
        }
        const whole = (part === "image" ? pictures : recordings)[0]!;
        let state = 7;
        const next = (below: number) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % below;
        const damaged = Array.from({ length: 40 }, () => {
          const copy = Buffer.from(whole.subarray(0, 20 + next(whole.length - 20)));
          for (let i = 0; i < 4; i++) copy[next(Math.min(copy.length, 64))] = next(256);
          return copy;
        });
        await Promise.all(
          damaged.map((data) =>
            generate(model, ["a ", { type: part, data }, " b"], 1).catch((error: unknown) =>
              assert.ok(coldstartError("INVALID_MEDIA")(error)),
            ),
          ),
        );
        assert.equal((await generate(model, ["a b"], 3)).tokens.length, 3);
      });
    }
  });

  it("finds the projector beside the model, and says when there is none", async () => {
    assert.equal(chooseProjector(["a.gguf", "mmproj-a-f16.gguf"], "a.gguf"), "mmproj-a-f16.gguf");
    const many = ["mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "x.gguf"];
    assert.equal(chooseProjector(many, "x.gguf"), "mmproj-F16.gguf");
    const two = ["mmproj-gemma-3-4b-it-f16.gguf", "mmproj-gemma-3-12b-it-f16.gguf"];
    assert.equal(chooseProjector(two, "gemma-3-12b-it-Q4_K_M.gguf"), two[1]);
    assert.equal(chooseProjector(["a.gguf"], "a.gguf"), undefined);

    const lonely = await loadModel(folder.path("llama.gguf"), { mmproj: "auto" });
    assert.ok(
      !lonely.info.images && lonely.placement.notes.some((note) => /no projector \(mmproj\) beside/.test(note)),
    );
    await lonely.dispose();
    writeFileSync(folder.path("mmproj-llama.gguf"), randomProjector("mlp", SHAPE.width));
    await withModel({ path: folder.path("llama.gguf"), mmproj: "auto" }, async (model) => {
      assert.ok(model.info.images);
      await generate(model, ["a ", { type: "image", data: pictures[0]! }]);
    });
    const weights = async (options: LoadOptions) =>
      (await planModel(folder.path("llama.gguf"), { gpuLayers: 0, ...options })).devices[0]!.weights;
    assert.ok((await weights({ mmproj: "auto" })) > (await weights({})));

    const refuses = (mmproj: string, ...expected: Parameters<typeof coldstartError>) =>
      assert.rejects(loadModel(folder.path("llama.gguf"), { mmproj }), coldstartError(...expected));
    await refuses(folder.path("none.gguf"), "MODEL_NOT_FOUND", /none\.gguf/);
    await refuses(TINY_STORIES, "UNSUPPORTED_MODEL", /is no projector: its architecture is 'llama'/);
    writeFileSync(folder.path("wide.gguf"), randomProjector("mlp", 2 * SHAPE.width));
    await refuses(folder.path("wide.gguf"), "LOAD_FAILED", /mismatch.*belongs to this model/s);
    const draft = readGgufForRewrite(randomProjector("mlp", SHAPE.width));
    const without = draft.tensors.filter(({ name }) => name !== "v.blk.1.attn_out.weight");
    writeFileSync(folder.path("part.gguf"), writeGguf({ metadata: draft.metadata, tensors: without }));
    await refuses(folder.path("part.gguf"), "LOAD_FAILED", /attn_out/);
    await assert.rejects(
      loadModel(folder.path("llama.gguf"), { mmproj: "auto", speculative: { type: "draft", model: TINY_STORIES } }),
      coldstartError("INVALID_OPTION", /mmproj is "auto"/),
    );
  });

  it("is attached in coldstart chat", async () => {
    writeFileSync(folder.path("picture.bmp"), pictures[0]!);
    const args = [
      "chat",
      folder.path("llama.gguf"),
      "--mmproj",
      folder.path("mlp.gguf"),
      "--chat-template",
      "chatml",
      "--max-tokens",
      "4",
    ];
    const child = spawn(process.execPath, [path.join(root, "dist/cli/main.js"), ...args, "--quiet"]);
    const saved = folder.path("chat.json");
    child.stdin.end(`/image ${folder.path("picture.bmp")}\n/image none\nWhat is it?\n/save ${saved}\n`);
    let err = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (err += chunk));
    const code = await new Promise((resolve) => child.once("exit", resolve));
    assert.equal(code, 0, err);
    assert.match(err, /There is no file none/);
    const [message] = JSON.parse(readFileSync(saved, "utf8")) as ChatMessage[];
    assert.deepEqual(message?.content, [
      { type: "image", path: folder.path("picture.bmp") },
      { type: "text", text: "What is it?" },
    ]);
  });
});
