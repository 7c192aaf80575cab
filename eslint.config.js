import js from "@eslint/js";
import tseslint from "typescript-eslint";

// A loop that only counts its rounds still has to name its variable.
const unused = ["error", { varsIgnorePattern: "^_" }];
const NODE_GLOBALS = [
  "AbortController", "AbortSignal", "Buffer", "URL", "fetch", "__dirname", "console", "module", "performance", "process",
  "require", "setInterval", "setTimeout",
]; // prettier-ignore

export default tseslint.config(
  { ignores: ["bench/upstream", "build", "deps", "dist", "docs/api", "prebuilds"] },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "@typescript-eslint/no-unused-vars": unused,
      // Numbers, and unknown values on purpose, in messages.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      // `() => void promise` and `(x) => sink(x)` read well.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // describe() and it() return nothing to wait for.
      "@typescript-eslint/no-floating-promises": ["error", { allowForKnownSafeCalls: ["describe", "it"] }],
      // What a test has just made sure of.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unnecessary-type-assertion": "off",
      // Callbacks that must return a promise.
      "@typescript-eslint/require-await": "off",
    },
  },
  {
    files: ["**/*.mjs", "**/*.cjs", "**/*.js"],
    languageOptions: { globals: Object.fromEntries(NODE_GLOBALS.map((name) => [name, "readonly"])) },
    rules: { "no-unused-vars": unused },
  },
);
