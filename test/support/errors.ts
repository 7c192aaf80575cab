import assert from "node:assert/strict";
import { ColdstartError, type ErrorCode } from "../../lib/index.js";

/** For assert.throws and assert.rejects: a ColdstartError of that code whose message matches, with something to do. */
export function coldstartError(code: ErrorCode, message?: RegExp) {
  return (error: unknown): true => {
    assert.ok(error instanceof ColdstartError, `not a ColdstartError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    if (message) assert.match(error.message, message);
    assert.notEqual(error.remedy, "", "it says what to do");
    return true;
  };
}
