/**
 * Deno std's assertions from the npm registry, for machines that can't reach
 * JSR: deno.json links this folder as @std/assert. The published package has no
 * types; mod.d.ts declares those of the functions that the tests use.
 */
// @ts-self-types="./mod.d.ts"
export { assert } from "npm:deno-std@1.4.0/assert/assert.js";
export { AssertionError } from "npm:deno-std@1.4.0/assert/assertion_error.js";
export { assertEquals } from "npm:deno-std@1.4.0/assert/equals.js";
export { assertExists } from "npm:deno-std@1.4.0/assert/exists.js";
export { assertGreater } from "npm:deno-std@1.4.0/assert/greater.js";
export { assertGreaterOrEqual } from "npm:deno-std@1.4.0/assert/greater_or_equal.js";
export { assertInstanceOf } from "npm:deno-std@1.4.0/assert/instance_of.js";
export { assertLess } from "npm:deno-std@1.4.0/assert/less.js";
export { assertLessOrEqual } from "npm:deno-std@1.4.0/assert/less_or_equal.js";
export { assertMatch } from "npm:deno-std@1.4.0/assert/match.js";
export { assertNotEquals } from "npm:deno-std@1.4.0/assert/not_equals.js";
export { assertRejects } from "npm:deno-std@1.4.0/assert/rejects.js";
export { assertStrictEquals } from "npm:deno-std@1.4.0/assert/strict_equals.js";
export { assertStringIncludes } from "npm:deno-std@1.4.0/assert/string_includes.js";
export { assertThrows } from "npm:deno-std@1.4.0/assert/throws.js";
export { fail } from "npm:deno-std@1.4.0/assert/fail.js";
