// Pictures and sound: they flow, stop and come back.

import { ensure, until } from "../report.js";
import { allMeet } from "../person.js";

async function two(stage, publish = {}) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join()]);
  await Promise.all([alice.publish(publish), bob.publish(publish)]);
  return [alice, bob];
}

async function twoMeet(stage) {
  const people = await two(stage);
  await allMeet(people);
  for (const one of people) {
    const ways = (await one.transports()).filter((way) => way.protocol).map((way) => way.protocol);
    ensure(ways.every((way) => way === "udp"), `${one.identity}'s media goes over ${ways}`);
  }
}

async function laterOneSeesAll(stage) {
  const [alice, bob] = await two(stage);
  await allMeet([alice, bob]);
  const carol = await stage.person("carol");
  await carol.join();
  await Promise.all([carol.sees(alice), carol.sees(bob), carol.hears(alice), carol.hears(bob)]);
}

/** Each guest shows a colour: a line that is used again for the wrong track would be seen. */
async function guestsComeAndGo(stage) {
  const [alice, bob] = await two(stage);
  await allMeet([alice, bob]);
  const colours = { red: [220, 0, 0], green: [0, 128, 0], blue: [0, 0, 220] };
  const lines = [];
  for (const [name, colour] of Object.entries(colours)) {
    const guest = await stage.person(name);
    await guest.join();
    await guest.call("publishDrawing", name, name);
    await guest.publish({ camera: false });
    await Promise.all([alice, bob].map(async (host) => {
      await Promise.all([host.sees(guest, "screen_share"), host.hears(guest)]);
      await host.showsColour(guest, "screen_share", colour);
    }));
    await Promise.all([guest.sees(alice), guest.sees(bob)]);
    lines.push(await bob.lines());
    await guest.leave();
    await Promise.all([alice.loses(guest, 10_000), bob.loses(guest, 10_000)]);
  }
  await allMeet([alice, bob]);
  ensure(lines[2] <= lines[0], `bob's media lines grew with each guest: ${lines}`);
}

async function publisherRenegotiates(stage) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join()]);
  await alice.call("microphone", true);
  await bob.hears(alice);
  for (let round = 0; round < 2; round++) {
    await alice.call("camera", true);
    await bob.sees(alice);
    await alice.call("unpublish", "camera");
    await until("the camera to be gone", async () => !(await bob.track(alice, "camera")));
    await bob.hears(alice);
  }
  await alice.call("unpublish", "microphone");
  await bob.event("trackUnsubscribed", (one) => one.source === "microphone");
  await alice.publish();
  await Promise.all([bob.sees(alice), bob.hears(alice)]);
}

async function muteAndUnmute(stage) {
  const [alice, bob] = await two(stage);
  await allMeet([alice, bob]);
  for (const [source, method] of [["microphone", "microphone"], ["camera", "camera"]]) {
    await alice.call(method, false);
    await until(`bob to know that the ${source} is off`, async () => (await bob.track(alice, source)).muted, 5000);
    await bob.misses(alice, source);
    await alice.call(method, true);
    await until(`bob to know that the ${source} is on`, async () => !(await bob.track(alice, source)).muted, 5000);
    await (source === "camera" ? bob.sees(alice) : bob.hears(alice));
  }
  await allMeet([alice, bob]);
}

async function joinsMuted(stage) {
  const alice = await stage.person("alice");
  await alice.join();
  await alice.publish();
  await alice.call("microphone", false);
  await alice.call("camera", false);
  const bob = await stage.person("bob");
  await bob.join();
  for (const source of ["microphone", "camera"]) {
    await until(`bob to know that the ${source} is off`, async () => (await bob.track(alice, source))?.muted);
  }
  await alice.publish();
  await Promise.all([bob.sees(alice), bob.hears(alice)]);
}

/** It is bob's: alice may be in Firefox, which has no screen to share without one. */
async function screenBesideCamera(stage) {
  const [alice, bob] = await two(stage);
  await alice.sees(bob);
  await bob.call("screen", true);
  const screen = await alice.sees(bob, "screen_share");
  const camera = await alice.sees(bob);
  ensure(screen.sid !== camera.sid && screen.mid !== camera.mid, "the screen came over the camera's line");
  await bob.call("screen", false);
  await alice.event("trackUnsubscribed", (one) => one.source === "screen_share");
  await allMeet([alice, bob]);
}

async function subscribesByHand(stage) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join({ connect: { autoSubscribe: false } })]);
  await alice.publish();
  await until("bob to know the tracks", async () => (await bob.track(alice, "camera")) && (await bob.track(alice, "microphone")));
  ensure(!(await bob.track(alice, "camera")).subscribed, "bob was subscribed without asking");
  await bob.call("subscribe", "alice", "camera", true);
  const { sid } = await bob.sees(alice);
  ensure(!(await bob.track(alice, "microphone")).subscribed, "bob got the microphone too");
  await bob.call("subscribe", "alice", "camera", false);
  await bob.event("trackUnsubscribed", (one) => one.sid === sid);
  await bob.call("subscribe", "alice", "camera", true);
  await bob.call("subscribe", "alice", "microphone", true);
  await Promise.all([bob.sees(alice), bob.hears(alice)]);
}

async function leaves(stage) {
  const [alice, bob] = await two(stage);
  await allMeet([alice, bob]);
  await alice.leave();
  await bob.loses(alice, 3000);
  await bob.event("trackUnsubscribed", (one) => one.source === "camera");
  ensure((await alice.call("log")).state === "disconnected", "alice is still connected");
}

export const media = [
  ["two people see and hear each other", twoMeet],
  ["one who comes later sees and hears all", laterOneSeesAll],
  ["three guests come and go, media lines are used again", guestsComeAndGo],
  ["a publisher adds and removes tracks", publisherRenegotiates],
  ["microphone and camera off and on", muteAndUnmute],
  ["tracks that were off when somebody joined", joinsMuted],
  ["a screen beside the camera", screenBesideCamera],
  ["subscriptions by hand", subscribesByHand],
  ["leaving is seen at once", leaves],
];
