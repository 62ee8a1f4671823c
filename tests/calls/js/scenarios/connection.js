// What happens when wires break, browsers die and names are taken.

import { ensure, sleep, until } from "../report.js";
import { allMeet } from "../person.js";

/** Alice behind a wire that can be cut, and bob; both publish and have met. */
async function aliceBehindWire(stage, publish = {}) {
  const link = await stage.link();
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join({ link }), bob.join()]);
  await Promise.all([alice.publish(publish), bob.publish(publish)]);
  await allMeet([alice, bob], publish);
  return { alice, bob, link, since: await alice.eventCount() };
}

async function identifiers(alice, bob) {
  const { sid } = await alice.view();
  return [sid, (await bob.track(alice, "camera")).sid, (await alice.track(bob, "camera")).sid].join();
}

/** The connection was taken up again: the same participant and tracks, and media flows both ways. */
async function wentOn({ alice, bob, since }, before) {
  await alice.event("resumed", () => true, since);
  await allMeet([alice, bob]);
  const after = await identifiers(alice, bob);
  ensure(before === after, `participant and tracks were ${before}, now ${after}`);
  const { events } = await bob.call("log");
  ensure(!events.some((one) => one.event === "participantDisconnected"), "alice was gone for bob meanwhile");
  ensure(!(await alice.call("log")).events.some((one) => one.event === "restarted"), "alice had to start anew");
}

async function socketCut(stage) {
  const call = await aliceBehindWire(stage);
  for (let round = 0; round < 2; round++) {
    const before = await identifiers(call.alice, call.bob);
    call.since = await call.alice.eventCount();
    call.link.cut();
    await wentOn(call, before);
  }
}

/** Nothing comes any more and nobody says so: the client notices by itself (no pong for 15 s). */
async function socketStalls(stage) {
  const call = await aliceBehindWire(stage);
  const before = await identifiers(call.alice, call.bob);
  call.link.hold();
  await call.alice.event("signalReconnecting", () => true, call.since, 30_000);
  call.link.release();
  await wentOn(call, before);
}

async function changesWhileCut(stage) {
  const { alice, bob, link, since } = await aliceBehindWire(stage, { camera: false });
  const carol = await stage.person("carol");
  await carol.join();
  await carol.publish({ microphone: false });
  await alice.sees(carol);
  link.hold();
  await bob.call("camera", true);
  await carol.leave();
  const dave = await stage.person("dave");
  await dave.join();
  await dave.publish({ camera: false });
  link.release();
  await alice.event("resumed", () => true, since);
  await alice.loses(carol, 10_000);
  await Promise.all([alice.sees(bob), alice.hears(bob), alice.hears(dave)]);
  await Promise.all([dave.hears(alice), bob.hears(dave)]);
}

async function iceRestart(stage) {
  const call = await aliceBehindWire(stage);
  const before = await identifiers(call.alice, call.bob);
  const pairs = (await call.alice.transports()).map((one) => one.own).join();
  await call.alice.call("simulate", "signal-reconnect");
  await wentOn(call, before);
  await until("another pair of addresses", async () => {
    const now = await call.alice.transports();
    return now.every((one) => one.state === "connected") && now.map((one) => one.own).join() !== pairs;
  });
  await allMeet([call.alice, call.bob]);
}

async function fullReconnect(stage) {
  const { alice, bob, since } = await aliceBehindWire(stage);
  await alice.call("simulate", "full-reconnect");
  await alice.event("restarted", () => true, since);
  await allMeet([alice, bob]);
  const { others } = await bob.view();
  ensure(Object.keys(others).join() === "alice", `bob sees ${Object.keys(others)}`);
}

async function nameTaken(stage) {
  const first = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([first.join(), bob.join()]);
  await Promise.all([first.publish(), bob.publish()]);
  await bob.sees(first);
  const second = await stage.person("alice");
  await second.join();
  const DUPLICATE_IDENTITY = 2;
  const gone = await first.event("disconnected", () => true, 0, 5000);
  ensure(gone.reason === DUPLICATE_IDENTITY, `the first was told the reason ${gone.reason}`);
  await second.publish();
  await allMeet([second, bob]);
}

async function killed(stage) {
  const bob = await stage.person("bob");
  const browser = await stage.ownBrowser();
  const victim = await stage.person("victim", { browser });
  await Promise.all([bob.join(), victim.join()]);
  await Promise.all([bob.publish(), victim.publish()]);
  await allMeet([bob, victim]);
  const at = Date.now();
  await browser.kill();
  stage.people = stage.people.filter((one) => one !== victim);
  await bob.loses(victim, 15_000);
  return `gone after ${Math.round((Date.now() - at) / 100) / 10} s`;
}

async function withoutUdp(stage) {
  const browser = await stage.ownBrowser(["--webrtc-ip-handling-policy=disable_non_proxied_udp"]);
  const alice = await stage.person("alice", { browser });
  const bob = await stage.person("bob");
  await Promise.all([alice.join(), bob.join()]);
  await Promise.all([alice.publish(), bob.publish()]);
  await allMeet([alice, bob]);
  const protocols = (await alice.transports()).filter((one) => one.protocol).map((one) => one.protocol);
  ensure(protocols.length > 0 && protocols.every((one) => one === "tcp"), `alice's media goes over ${protocols}`);
}

async function goneWithoutTrace(stage) {
  const { alice, bob, link } = await aliceBehindWire(stage, { camera: false });
  link.hold();
  await bob.leave();
  const carol = await stage.person("carol");
  await carol.join();
  await carol.publish({ camera: false });
  await sleep(500);
  link.release();
  await alice.loses(bob, 15_000);
  await Promise.all([alice.hears(carol), carol.hears(alice)]);
}

export const connection = [
  ["the socket is cut and resumed, media flows on", socketCut],
  ["the socket stalls and is resumed", socketStalls],
  ["others come, go and publish while the socket is cut", changesWhileCut],
  ["a publisher leaves while the socket is cut", goneWithoutTrace],
  ["ICE restart", iceRestart],
  ["full reconnect", fullReconnect],
  ["a second one with the same name replaces the first", nameTaken],
  ["media over TCP where UDP is blocked", withoutUdp],
  ["a killed browser is gone within 15 s", killed],
];
