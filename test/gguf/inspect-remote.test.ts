// Headers of files on a server: as those of the same files here, and as @huggingface/gguf reads them.

import { gguf } from "@huggingface/gguf";
import fc from "fast-check";
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { ColdstartError, inspectGguf } from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { serveFile } from "../support/file-server.js";
import { writeGguf } from "../support/gguf-writer.js";
import { TINY_STORIES } from "../support/models.js";
import { randomGguf } from "../support/random-gguf.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const model = readFileSync(TINY_STORIES);

/** With a header of several megabytes and weights of many. */
const large = writeGguf({
  metadata: [
    { key: "general.architecture", type: "string", value: "llama" },
    { key: "tokenizer.ggml.tokens", type: "array", elementType: "string", values: Array.from({ length: 250_000 }, (_, i) => `token ${i}`) },
    { key: "after.it", type: "uint32", value: 5 },
  ],
  tensors: [{ name: "token_embd.weight", type: 0, shape: [64, 250_000] }],
}); // prettier-ignore

describe("inspectGguf() of a URL", () => {
  const folder = temporaryFolder();

  for (const ranges of [true, false]) {
    it(`tells what it tells of the file, from a server ${ranges ? "with" : "without"} Range requests`, async () => {
      await using server = await serveFile(model, { ranges });
      const expected = await inspectGguf(TINY_STORIES, { arrayLimit: Infinity });
      assert.deepEqual(await inspectGguf(server.url, { arrayLimit: Infinity }), expected);
      assert.deepEqual(await inspectGguf(new URL(server.url)), await inspectGguf(TINY_STORIES));
      assert.equal(server.requests[0], "bytes=0-1048575");
    });

    it(`reads a large header and not the weights, from a server ${ranges ? "with" : "without"} them`, async () => {
      const file = folder.path("large.gguf");
      writeFileSync(file, large);
      const expected = await inspectGguf(file, { arrayLimit: Infinity });
      assert.ok(expected.dataOffset > 4e6 && expected.fileSize > 64e6);
      await using server = await serveFile(large, { ranges });
      assert.deepEqual(await inspectGguf(server.url, { arrayLimit: Infinity }), expected);
      assert.ok(server.requests.length <= 5, `${server.requests.length} requests`);
      assert.ok(server.sent() < 48e6, `${server.sent()} bytes sent`);
      if (ranges) assert.ok(server.sent() <= 2 * expected.dataOffset, `${server.sent()} bytes sent`);
    });
  }

  it("agrees with @huggingface/gguf", async () => {
    await using server = await serveFile(large);
    const [ours, theirs] = [await inspectGguf(server.url, { arrayLimit: Infinity }), await gguf(server.url)];
    const { version, tensor_count, kv_count, ...metadata } = theirs.metadata as Record<string, unknown>;
    assert.deepEqual([version, tensor_count, kv_count], [ours.version, 1n, 3n]);
    const values = Object.entries(ours.metadata).map(([key, value]) => [
      key,
      typeof value === "object" ? value.values : value,
    ]);
    assert.deepEqual(Object.fromEntries(values), metadata);
    assert.equal(BigInt(ours.dataOffset), theirs.tensorDataOffset);
    assert.deepEqual(ours.tensors[0]!.shape.map(BigInt), theirs.tensorInfos[0]!.shape);
  });

  it("tells the same of any file, and of any damage to it", async () => {
    const file = folder.path("x.gguf");
    let served: Buffer = Buffer.alloc(0);
    await using server = await serveFile(served, {
      intercept: (_, response) => {
        response.writeHead(200, { "content-length": served.length }).end(served);
        return true;
      },
    });
    const outcome = (path: string) =>
      inspectGguf(path, { arrayLimit: 3 }).catch((error: unknown) => {
        assert.ok(error instanceof ColdstartError, String(error));
        return [error.code, error.message];
      });
    await fc.assert(
      fc.asyncProperty(
        randomGguf,
        fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }),
        async (spec, damage) => {
          served = writeGguf(spec);
          for (const [at, byte] of damage) if (at < served.length) served[at] = byte;
          writeFileSync(file, served);
          assert.deepEqual(await outcome(server.url), await outcome(file));
        },
      ),
      { numRuns: 150 },
    );
  });

  it("reads on until it has enough, however little comes at a time", async () => {
    const small = writeGguf({
      metadata: [{ key: "general.name", type: "string", value: "a name" }],
      tensors: [{ name: "t", type: 0, shape: [3] }],
    });
    const file = folder.path("small.gguf");
    writeFileSync(file, small);
    await using server = await serveFile(small, {
      intercept: ({ headers }, response) => {
        const from = Number(/\d+/.exec(headers.range!)![0]);
        const range = `bytes ${from}-${from + 6}/${small.length}`;
        response.writeHead(206, { "content-range": range }).end(small.subarray(from, from + 7));
        return true;
      },
    });
    assert.deepEqual(await inspectGguf(server.url), await inspectGguf(file));
    assert.equal(server.requests.length, Math.ceil((small.length - 32) / 7));
  });

  it("sends headers, for files that are not for everybody", async () => {
    await using server = await serveFile(model, {
      intercept: (request, response) => {
        if (request.headers.authorization === "Bearer secret") return false;
        response.writeHead(401).end("who are you?");
        return true;
      },
    });
    await assert.rejects(
      inspectGguf(server.url),
      coldstartError("LOAD_FAILED", /answered 401\. Give what it asks for in headers/),
    );
    const info = await inspectGguf(server.url, { headers: { authorization: "Bearer secret" } });
    assert.equal(info.architecture, "llama");
  });

  it("follows redirects", async () => {
    await using server = await serveFile(model, {
      intercept: (request, response) => {
        if (request.url !== "/old") return false;
        response.writeHead(302, { location: "/new" }).end();
        return true;
      },
    });
    const info = await inspectGguf(new URL("/old", server.url));
    assert.equal(info.fileSize, model.length);
    assert.deepEqual(new Set(server.requests), new Set(["bytes=0-1048575"]));
  });

  describe("says what is wrong", () => {
    const answers: [
      name: string,
      answer: (response: import("node:http").ServerResponse) => void,
      code: "LOAD_FAILED" | "MODEL_NOT_FOUND" | "INVALID_GGUF",
      message: RegExp,
    ][] = [
      ["when there is no file", (response) => response.writeHead(404).end(), "MODEL_NOT_FOUND", /There is no file at http:.*answered 404/],
      ["when the server fails", (response) => response.writeHead(503).end(), "LOAD_FAILED", /answered 503\. Try again later/],
      ["when it is a web page", (response) => response.writeHead(200, { "content-length": 15 }).end("<!doctype html>"), "INVALID_GGUF", /starts with '<!do'/],
      ["when the size is not said", (response) => response.writeHead(200).end(model), "LOAD_FAILED", /does not say the file's size/],
      ["when it is another part", (response) => response.writeHead(206, { "content-range": "bytes 5-9/100" }).end("12345"), "LOAD_FAILED", /sent another part/],
      ["when the range makes no sense", (response) => response.writeHead(206, { "content-range": "lines 1-2/*" }).end("12345"), "LOAD_FAILED", /does not say the file's size/],
      ["when nothing comes", (response) => response.writeHead(206, { "content-range": "bytes 0-0/100", "content-length": 0 }).end(), "LOAD_FAILED", /the server's answer is empty/],
      ["when the connection breaks", (response) => response.destroy(), "LOAD_FAILED", /cannot be read: .*\. Check the URL and the connection/],
      ["when it breaks in the middle", (response) => { response.writeHead(200, { "content-length": model.length }).write(model.subarray(0, 100)); setTimeout(() => response.destroy(), 20); }, "LOAD_FAILED", /cannot be read/],
      ["when a header claims gigabytes", (response) => {
        const start = Buffer.concat([model.subarray(0, 24), Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("name"), Buffer.from([8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0])]);
        response.writeHead(206, { "content-range": `bytes 0-${start.length - 1}/${2 ** 40}`, "content-length": start.length }).end(start);
      }, "LOAD_FAILED", /its header has more than 256\.0 MiB/],
    ]; // prettier-ignore
    for (const [name, answer, code, message] of answers) {
      it(name, async () => {
        const intercept = (_: unknown, response: import("node:http").ServerResponse) => {
          answer(response);
          return true;
        };
        await using server = await serveFile(model, { intercept });
        await assert.rejects(inspectGguf(server.url), coldstartError(code, message));
      });
    }

    it("when the file changes between two requests", async () => {
      let times = 0;
      await using server = await serveFile(large, {
        intercept: (_, response) => {
          if (times++ === 0) return false;
          response.writeHead(206, { "content-range": "bytes 1048576-1048579/5000000" }).end("abcd");
          return true;
        },
      });
      await assert.rejects(inspectGguf(server.url), coldstartError("LOAD_FAILED", /it changed while it was read/));
    });

    it("when nobody listens", async () => {
      const server = await serveFile(model);
      await server[Symbol.asyncDispose]();
      await assert.rejects(inspectGguf(server.url), coldstartError("LOAD_FAILED", /cannot be read: .*ECONNREFUSED/));
    });

    it("when the file is cut short on the server", async () => {
      await using server = await serveFile(model.subarray(0, 3_000_000));
      await assert.rejects(inspectGguf(server.url), coldstartError("INVALID_GGUF", /the file is truncated/));
    });

    it("without passwords and signatures of the URL", async () => {
      await using server = await serveFile(model, {
        intercept: (_, response) => {
          response.writeHead(403).end();
          return true;
        },
      });
      await assert.rejects(inspectGguf(`${server.url}?signature=secret`), (error: ColdstartError) => {
        assert.ok(!error.message.includes("secret") && !JSON.stringify(error.details).includes("secret"));
        return error.code === "LOAD_FAILED";
      });
    });

    it("of options and URLs that make no sense", async () => {
      await assert.rejects(inspectGguf("http://"), coldstartError("INVALID_OPTION", /path is "http:\/\/"/));
      await assert.rejects(
        inspectGguf("http://x", { headers: { a: 1 } as never }),
        coldstartError("INVALID_OPTION", /headers/),
      );
      await assert.rejects(inspectGguf(new URL("ftp://x/y")), coldstartError("INVALID_OPTION", /the path or the URL/));
    });
  });

  it("ends when it is told to", async () => {
    const abort = new AbortController();
    await using server = await serveFile(model, {
      intercept: () => {
        abort.abort();
        return true;
      },
    });
    await assert.rejects(
      inspectGguf(server.url, { signal: abort.signal }),
      coldstartError("ABORTED", /Reading http:.* was aborted/),
    );
  });
});
