// Answers that are JSON as a schema says. Whether they fit is asked of Ajv.

import assert from "node:assert/strict";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import * as z from "zod";
import type { GenerateOptions, JsonSchema } from "../lib/index.js";
import { native } from "../lib/native.js";
import { followableSchema } from "../lib/structured/json-schema.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, withModel } from "./support/models.js";

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);

/** Schemas of what a grammar can follow. */
const { schema: randomSchema } = fc.letrec<{ schema: Record<string, unknown> }>((tie) => ({
  schema: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom<Record<string, unknown>>(
      { type: "boolean" },
      { type: "null" },
      { type: "number" },
      { type: "integer" },
      { type: "string", format: "date" },
      { type: "string", format: "date-time" },
      { type: "string", format: "time" },
      { type: "string", format: "uuid" },
      { type: "string", pattern: "^[a-c]{2,4}-(x|yz)[0-9]?$" },
      { type: "string", pattern: '^\\w+ [^a]{1,3}[\\s"\\\\]$' },
      { type: "string", pattern: "^é🙂?(\\t|\u0001)" },
      { const: { a: [1, "b", null] } },
      { enum: ["red", 7, false] },
      { type: ["string", "null"], maxLength: 4 },
    ),
    fc
      .tuple(fc.integer({ min: -200, max: 200 }), fc.nat(300), fc.constantFrom("minimum", "exclusiveMinimum"))
      .map(([least, range, key]) => ({ type: "integer", [key]: least, maximum: least + 1 + range })),
    fc
      .tuple(fc.nat(3), fc.nat(4))
      .map(([least, range]) => ({ type: "string", minLength: least, maxLength: least + range })),
    fc
      .tuple(tie("schema"), fc.nat(2), fc.nat(2))
      .map(([items, least, range]) => ({ type: "array", items, minItems: least, maxItems: least + range })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((prefixItems) => ({ type: "array", prefixItems })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    fc
      .uniqueArray(fc.tuple(fc.constantFrom("name", "äge", 'quo"te', "b c", "x"), tie("schema"), fc.boolean()), {
        selector: ([name]) => name,
        maxLength: 4,
      })
      .map((properties) => ({
        type: "object",
        properties: Object.fromEntries(properties.map(([name, property]) => [name, property])),
        required: properties.filter(([, , isRequired]) => isRequired).map(([name]) => name),
        additionalProperties: false,
      })),
  ),
}));

describe("responseFormat", function () {
  this.timeout(120_000);

  it("gives JSON that fits the schema, whatever the schema", async () => {
    await withModel({ parallel: 4, contextLength: 256 }, async (model) => {
      let whole = 0;
      await fc.assert(
        fc.asyncProperty(randomSchema, fc.nat(), async (schema, seed) => {
          followableSchema(schema, "schema");
          const validate = ajv.compile(schema);
          const options: GenerateOptions = {
            responseFormat: { type: "json", schema },
            maxTokens: 200,
            temperature: 1.5,
          };
          const generations = [0, 1, 2].map((i) => model.generate(PROMPT, { ...options, seed: seed + i }));
          for (const generation of generations) {
            const { finishReason, text } = await generation.result;
            if (finishReason !== "stop") {
              assert.equal(finishReason, "length");
              continue;
            }
            const value = await generation.json();
            assert.ok(validate(value), `${text}: ${ajv.errorsText(validate.errors)}`);
            whole++;
          }
        }),
        { numRuns: 60 },
      );
      assert.ok(whole > 60, `${whole} were whole`);
    });
  });

  it("takes no bytes for characters that are none", async () => {
    await withModel({ contextLength: 64, parallel: 4 }, async (model) => {
      const options: GenerateOptions = {
        grammar: "root ::= [^\\x00-\\x7F]{6}",
        temperature: 50,
        topK: 0,
        topP: 1,
        minP: 0,
      };
      const texts = await Promise.all(
        Array.from({ length: 100 }, (_, seed) => model.generate(PROMPT, { ...options, seed }).text()),
      );
      for (const text of texts)
        assert.ok(Array.from(text).length === 6 && !text.includes("\uFFFD"), JSON.stringify(text));
    });
  });

  it("follows references, also to what they are in", async () => {
    const schema = {
      $defs: {
        tree: {
          type: "object",
          properties: {
            value: { type: "integer" },
            left: { $ref: "#/$defs/tree" },
            right: { anyOf: [{ $ref: "#/$defs/tree" }, { type: "null" }] },
          },
          required: ["value"],
          additionalProperties: false,
        },
      },
      $ref: "#/$defs/tree",
    };
    const validate = ajv.compile(schema);
    await withModel({}, async (model) => {
      for (let seed = 0; seed < 8; seed++) {
        const generation = model.generate(PROMPT, {
          responseFormat: { type: "json", schema },
          seed,
          maxTokens: 150,
          temperature: 1.2,
        });
        if ((await generation.result).finishReason === "stop") assert.ok(validate(await generation.json()));
      }
    });
  });

  it("gives any object without a schema, and takes what can tell one", async () => {
    await withModel({}, async (model) => {
      const any = await model.generate(PROMPT, { responseFormat: { type: "json" }, maxTokens: 60, seed: 4 }).result;
      assert.match(any.text, /^\s*\{/);
      const standard = {
        "~standard": {
          version: 1,
          vendor: "test",
          jsonSchema: { input: ({ target }: { target: string }) => ({ const: target }) },
        },
      };
      const told = model.generate(PROMPT, { responseFormat: { type: "json", schema: standard }, temperature: 0 });
      assert.equal(await told.json(), "draft-2020-12");
    });
  });

  it("says when an answer is not whole, instead of giving a part of it", async () => {
    const schema = { type: "array", items: { type: "integer" }, minItems: 50 };
    await withModel({ isolation: "process" }, async (model) => {
      const generation = model.generate(PROMPT, { responseFormat: { type: "json", schema }, maxTokens: 10 });
      assert.equal((await generation.result).finishReason, "length");
      await assert.rejects(
        generation.json(),
        coldstartError("INCOMPLETE_ANSWER", /10 tokens.*finishReason length.*maxTokens/),
      );
      await assert.rejects(model.generate(PROMPT, { maxTokens: 10 }).json(), coldstartError("INCOMPLETE_ANSWER"));
    });
  });

  it("refuses what it cannot follow, and names it", async () => {
    await withModel({}, (model) => {
      const refuses = (schema: unknown, message: RegExp) =>
        assert.throws(
          () => model.generate(PROMPT, { responseFormat: { type: "json", schema: schema as JsonSchema } }),
          coldstartError("INVALID_OPTION", message),
          JSON.stringify(schema),
        );
      const inside = (property: object) => ({ type: "object", properties: { p: property } });
      refuses(inside({ not: { type: "null" } }), /at #\/properties\/p the keyword not/);
      refuses(inside({ type: "number", minimum: 3 }), /the keyword minimum/);
      refuses(inside({ type: "integer", multipleOf: 3 }), /multipleOf/);
      refuses(inside({ type: "integer", minimum: 3, exclusiveMinimum: 3 }), /exclusiveMinimum/);
      refuses(inside({ type: "integer", minimum: 3, maximum: 2 }), /no number/);
      refuses(inside({ type: "integer", minimum: 0.5 }), /0\.5.*a whole number/);
      refuses(inside({ type: "string", format: "email" }), /"email".*date-time/);
      refuses(inside({ type: "string", pattern: "^a$", maxLength: 1 }), /several of pattern/);
      refuses({ oneOf: [{ type: "object" }, { type: "object", properties: { a: { const: 1 } } }] }, /several of/);
      refuses(inside({ type: "string", pattern: "^\\bw" }), /the pattern \^\\bw has a word boundary/);
      refuses({ $schema: "https://example.com/own", type: "string" }, /\$schema.*json-schema\.org/);
      refuses(inside({ type: "string", minLength: 3, maxLength: 2 }), /no string/);
      refuses(inside({ type: "array", uniqueItems: true }), /uniqueItems/);
      refuses(inside({ type: "array", prefixItems: [{}], items: {} }), /prefixItems with others/);
      refuses(inside({ type: "array", prefixItems: [{}], minItems: 2 }), /prefixItems with others/);
      refuses(inside({ type: "object", propertyNames: { maxLength: 2 } }), /propertyNames/);
      refuses(inside({ type: "array", minItems: -1 }), /minItems/);
      refuses(inside({ type: "array", items: true }), /true.*\{\} for anything/);
      refuses({ type: "object", required: ["absent"] }, /"absent".*described/);
      refuses({ type: "object", patternProperties: {} }, /patternProperties/);
      refuses({ allOf: [{ type: "string" }] }, /allOf/);
      refuses({ anyOf: [{ type: "string" }], minLength: 3 }, /minLength/);
      refuses({ oneOf: [{ type: "string" }, { enum: ["a"] }] }, /several of.*anyOf/);
      refuses({ oneOf: [{ type: "number" }, { const: 3 }] }, /several of/);
      refuses({ enum: [] }, /\[\]/);
      refuses({ type: "string", enum: ["a", 3] }, /3.*of the type string/);
      refuses({ type: "text" }, /"text"/);
      refuses({ $ref: "other.json" }, /other\.json.*within the schema/);
      refuses({ $ref: "#/$defs/none" }, /none/);
      refuses({ typ: "string" }, /the keyword typ/);
      refuses("x", /"x"/);
      refuses({ "~standard": { version: 1 } }, /Zod from 4\.2 on/);
      const both = { grammar: 'root ::= "a"', responseFormat: { type: "json" } } as const;
      assert.throws(() => model.generate(PROMPT, both), coldstartError("INVALID_OPTION", /responseFormat/));
      // Alternatives that no value fits two of.
      followableSchema(
        { oneOf: [{ type: "string" }, { type: "integer" }, { const: null }, { enum: [[1], true] }] },
        "schema",
      );
      return Promise.resolve();
    });
  });

  it("takes schemas of Zod, which also give the answer its type and validate it", async () => {
    await withModel({ contextLength: 2048 }, async (model) => {
      const schema = z.object({
        name: z.string().min(2).max(6).describe("Of the hero"),
        born: z.iso.date(),
        age: z.int().min(1).max(12),
        pet: z.enum(["dog", "cat"]).nullable(),
        tags: z.array(z.string().regex(/^\w{2,4}$/)).max(2),
        id: z.uuid(),
        place: z.tuple([z.enum(["x", "y"]), z.int().max(9)]),
        sizes: z.record(z.string(), z.boolean()).optional(),
        what: z.discriminatedUnion("kind", [
          z.object({ kind: z.literal("one"), n: z.int() }),
          z.object({ kind: z.literal("two"), b: z.boolean() }),
        ]),
      });
      let whole = 0;
      for (let seed = 0; seed < 6; seed++) {
        const generation = model.generate(PROMPT, {
          responseFormat: { type: "json", schema },
          seed,
          temperature: 1.2,
          maxTokens: 1500,
        });
        if ((await generation.result).finishReason === "length") continue;
        whole++;
        const value = await generation.json();
        const typed: { name: string; pet: "dog" | "cat" | null } = value;
        assert.deepEqual(schema.parse(typed), value);
      }
      assert.ok(whole >= 3, `${whole} whole answers`);
      // What a schema cannot say is not the model's to know.
      const twice = z.object({
        n: z
          .int()
          .min(2)
          .max(3)
          .transform((n) => n * 2),
      });
      const doubled: { n: number } = await model
        .generate(PROMPT, { responseFormat: { type: "json", schema: twice } })
        .json();
      assert.ok([4, 6].includes(doubled.n));
      const never = z.object({ n: z.int().refine(() => false, "It is never right") });
      await assert.rejects(
        model.generate(PROMPT, { responseFormat: { type: "json", schema: never }, maxTokens: 60, seed: 1 }).json(),
        coldstartError("INCOMPLETE_ANSWER", /n: It is never right/),
      );
    });
  });

  it("is a text that a regular expression matches", async () => {
    await withModel({ parallel: 4 }, async (model) => {
      const patterns = [/^\d{3}-\d{4}$/, /(yes|no)( please)?/, /^[A-Z]\w{2,5} "[^"]{1,4}" 🙂$/u, /a|b\nc/];
      for (const pattern of patterns) {
        const answers = Array.from(
          { length: 5 },
          (_, seed) =>
            model.generate(PROMPT, { responseFormat: { type: "regex", pattern }, seed, temperature: 1.2 }).result,
        );
        for (const { text, finishReason } of await Promise.all(answers)) {
          assert.equal(finishReason, "stop");
          assert.match(text, new RegExp(`^(?:${pattern.source})$`, "u"));
        }
      }
      const refuses = (pattern: unknown, message: RegExp) =>
        assert.throws(
          () => model.generate(PROMPT, { responseFormat: { type: "regex", pattern: pattern as string } }),
          coldstartError("INVALID_OPTION", message),
        );
      refuses(/(?=a)a/, /pattern \(\?=a\)a has a group of a kind/);
      refuses(/a/i, /without flags/);
      refuses("", /pattern/);
      refuses(undefined, /pattern/);
    });
  });

  it("makes grammars of schemas that nest deeply, and of no deeper ones", () => {
    const nested = (depth: number) => {
      let schema: object = { type: "null" };
      for (let i = 1; i < depth; i++) schema = { type: "array", items: schema, maxItems: 1 };
      return schema;
    };
    assert.match(native().grammarOfSchema(followableSchema(nested(200), "schema")), /^root ::=/m);
    assert.throws(() => followableSchema(nested(100_000), "schema"), coldstartError("INVALID_OPTION", /at most 200/));
  });
});
