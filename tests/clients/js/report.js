// Counts steps, prints one line for each, and bounds each in time.

const STEP_LIMIT_MS = 60_000;
const WAIT_LIMIT_MS = 40_000;

let passed = 0;
let failed = 0;

/** A step failed without which the rest of the scenario has no meaning. */
export class Abort extends Error {}

/** Fails the step when the condition does not hold. */
export function ensure(condition, message) {
  if (!condition) throw new Error(message);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks `check` ten times a second until it gives something truthy; `what` names the thing in the error. */
export async function until(what, check, limit = WAIT_LIMIT_MS) {
  const deadline = Date.now() + limit;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${limit / 1000} s in vain for ${what}`);
    await sleep(100);
  }
}

/** Runs one step and prints `ok NAME` or `FAIL NAME: cause`; undefined when it failed. */
export async function step(name, work, bound = STEP_LIMIT_MS) {
  const started = Date.now();
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result after ${bound / 1000} s`)), bound);
  });
  try {
    const value = await Promise.race([work(), limit]);
    passed += 1;
    console.log(`ok ${name} (${Date.now() - started} ms)`);
    return value ?? true;
  } catch (error) {
    fail(name, describe(error));
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Like `step`, for a step without which the scenario cannot go on. */
export async function must(name, work, bound = STEP_LIMIT_MS) {
  const value = await step(name, work, bound);
  if (value === undefined) throw new Abort(name);
  return value;
}

/** Counts and prints a failure that did not come from a step's own work. */
export function fail(name, cause) {
  failed += 1;
  console.log(`FAIL ${name}: ${cause}`);
}

/** Prints the closing line and ends the process. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

function describe(error) {
  const where = error?.stack?.split("\n").find((line) => line.includes("scenario"))?.trim() ?? "";
  return `${error?.message ?? error} ${where}`;
}
