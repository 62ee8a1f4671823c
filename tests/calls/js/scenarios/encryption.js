// End-to-end encryption by livekit-client's worker; the server only forwards.

import { ensure, until } from "../report.js";
import { allMeet } from "../person.js";

async function pair(stage, secrets) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join({ secret: secrets[0] }), bob.join({ secret: secrets[1] })]);
  await Promise.all([alice.publish(), bob.publish()]);
  return [alice, bob];
}

async function sameKey(stage) {
  const [alice, bob] = await pair(stage, ["a shared secret", "a shared secret"]);
  await allMeet([alice, bob]);
  for (const source of ["camera", "microphone"]) {
    ensure((await bob.track(alice, source)).encrypted, `the ${source} is not marked as encrypted`);
  }
  const carol = await stage.person("carol");
  await carol.join({ secret: "a shared secret" });
  await Promise.all([carol.sees(alice), carol.hears(bob)]);
  await alice.call("camera", false);
  await bob.misses(alice);
  await alice.call("camera", true);
  await Promise.all([bob.sees(alice), carol.sees(alice)]);
}

async function otherKey(stage) {
  const [alice, bob] = await pair(stage, ["a shared secret", "another secret"]);
  await until("packets at bob", async () => (await bob.track(alice, "camera"))?.packets > 50);
  await bob.event("encryptionError");
  const { frames } = await bob.track(alice, "camera");
  ensure(frames === 0, `bob decoded ${frames} pictures without the key`);
}

export const encryption = [
  ["people with the same key see and hear each other", sameKey],
  ["one with another key sees nothing", otherKey],
];
