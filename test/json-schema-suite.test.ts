// The public JSON Schema Test Suite (draft 2020-12), as Debian's libtest-json-schema-acceptance-perl has it: what a grammar claims
// to follow, it follows.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { ColdstartError, loadModel, type JsonSchema, type Model } from "../lib/index.js";
import { native } from "../lib/native.js";
import { followableSchema } from "../lib/structured/json-schema.js";
import { PROMPT, TINY_STORIES } from "./support/models.js";
import { testing } from "./native/testing-addon.js";

const SUITE = "/usr/share/perl5/auto/share/dist/Test-JSON-Schema-Acceptance/tests/draft2020-12";

interface Group {
  description: string;
  schema: unknown;
  tests: { description: string; data: unknown; valid: boolean }[];
}

const files = existsSync(SUITE)
  ? readdirSync(SUITE, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json"))
  : [];

const ajv = new Ajv2020({ strict: false, allErrors: true, ownProperties: true });
addFormats.default(ajv);

/** The grammar; undefined when the schema is refused, which it says. */
function grammarOf(schema: unknown): string | undefined {
  try {
    return native().grammarOfSchema(followableSchema(schema, "schema"));
  } catch (error) {
    assert.ok(error instanceof ColdstartError && error.code === "INVALID_OPTION", String(error));
    return undefined;
  }
}

describe("the JSON Schema Test Suite", function () {
  this.timeout(120_000);
  let model: Model;
  before(async function () {
    if (files.length === 0) this.skip();
    model = await loadModel(TINY_STORIES, { threads: 1, parallel: 8 });
  });
  after(() => (model as Model | undefined)?.dispose());

  let followed = 0;
  let valid = 0;
  let taken = 0;
  for (const file of files) {
    const groups = JSON.parse(readFileSync(path.join(SUITE, file), "utf8")) as Group[];
    it(file, async () => {
      for (const { description, schema, tests } of groups) {
        const grammar = grammarOf(schema);
        if (grammar === undefined) continue;
        followed++;
        const where = `${description}: ${JSON.stringify(schema)}`;
        for (const test of tests) {
          const json = JSON.stringify(test.data);
          const takes = testing.grammarTakes(grammar, json);
          assert.ok(test.valid || !takes, `${where} takes ${json}`);
          if (test.valid) valid++;
          if (takes) taken++;
        }
        const validate = ajv.compile(schema as object);
        const answers = Array.from({ length: 4 }, (_, seed) =>
          model.generate(PROMPT, {
            responseFormat: { type: "json", schema: schema as JsonSchema },
            seed,
            maxTokens: 100,
            temperature: 1.3,
          }),
        );
        for (const answer of answers) {
          const { text, finishReason } = await answer.result;
          if (finishReason === "stop") assert.ok(validate(JSON.parse(text)), `${where} gives ${text}`);
        }
      }
    });
  }

  it("is followed where schemas say what can be", function () {
    // Valid, and never generated: values of types that a schema does not name, properties in another order, and such
    // (docs/structured-output.md).
    assert.ok(followed > 50 && taken > 0.7 * valid, `${followed} groups; ${taken} of ${valid} valid values`);
  });
});
