// What a token does not allow, and what an operator can do.

import { ensure, until } from "../report.js";

async function listener(stage) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join({ limits: { publish: 0 } })]);
  await alice.publish();
  await Promise.all([bob.sees(alice), bob.hears(alice)]);
  const refused = await bob.publish().then(() => false, () => true);
  ensure(refused, "who may only listen published");
  ensure(Object.keys((await alice.view()).others.bob.tracks).length === 0, "alice knows a track of who may only listen");
}

async function noSuchCall(stage) {
  const alice = await stage.person("alice");
  const error = await alice.join({ limits: { create: 0 } }).then(() => undefined, (error) => error);
  ensure(/requested room does not exist/.test(error?.message), `joining a call that is not there gives ${error?.message ?? "success"}`);
  const bob = await stage.person("bob");
  await bob.join();
  await alice.join({ limits: { create: 0 } });
  await bob.meets(alice);
}

async function removed(stage) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join()]);
  await alice.publish();
  await bob.sees(alice);
  await stage.server.order("disconnect", { room: stage.room, identity: "alice" });
  const PARTICIPANT_REMOVED = 4;
  const { reason } = await alice.event("disconnected", () => true, 0, 5000);
  ensure(reason === PARTICIPANT_REMOVED, `alice was told the reason ${reason}`);
  await bob.loses(alice, 5000);
}

async function muted(stage) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join()]);
  await alice.publish({ camera: false });
  const { sid } = await bob.hears(alice);
  await stage.server.order("mute", { room: stage.room, identity: "alice", track: sid });
  await until("bob to know that alice is muted", async () => (await bob.track(alice, "microphone")).muted, 5000);
  await bob.misses(alice, "microphone");
  await alice.call("microphone", true);
  await bob.hears(alice);
}

export const power = [
  ["who may only listen cannot publish", listener],
  ["a call that is not there is refused to who may not make one", noSuchCall],
  ["a participant is removed", removed],
  ["a microphone is muted by the server", muted],
];
