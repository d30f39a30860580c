/**
 * Loads the native library before any test: it stays loaded for the life of the
 * process, which the resource sanitizer would take for a leak of the first test.
 */
import { native } from "../src/native.ts";

// Every function is bound when it is first looked at.
Object.values(native());
