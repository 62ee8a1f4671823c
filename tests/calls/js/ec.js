// Element Call as a widget of a small Matrix client, in real browsers, against Conduits.
// Environment: BINARY (of Conduit), ONLY (a part of a call's title), LOGS (a folder), SHOTS (a folder for pictures).

import { closeBrowsers } from "./browser.js";
import { Abort, ensure, fail, finish, until } from "./report.js";
import { Call } from "./ec/call.js";
import { Homeserver, makeAuthority } from "./ec/homeserver.js";
import { MODES, serveSite } from "./ec/site.js";

const ALL_LIMIT_MS = 1_800_000;
const logFolder = process.env.LOGS;
const shots = process.env.SHOTS;

/** Three people of one server: they come, switch off and on, one dies, the others hang up, and call again. */
async function threePeople(call, [home]) {
  const [alice, bob, carol] = await call.must("three users share an encrypted room", () =>
    call.invite({ alice: home, bob: home, carol: home }));
  const [browser, victim] = [await call.browser(), await call.browser()];
  await call.must("their clients start", async () => {
    for (const [one, where] of [[alice, browser], [bob, browser], [carol, victim]]) await one.open(where, call);
  });
  await call.must("the first one joins the call", async () => {
    await alice.join(call.mode);
    await alice.knowsInCall([alice]);
    const [state, sticky] = [(await alice.serverMemberships()).length, (await alice.notes()).filter((one) => one.sticky).length];
    ensure(call.mode === "matrix_2_0" ? state === 0 && sticky > 0 : state === 1 && sticky === 0,
      `in this mode: ${state} memberships in the state, ${sticky} sticky events`);
  });
  await call.must("two people see and hear each other", async () => {
    await bob.join(call.mode);
    await call.allMeet([alice, bob]);
  }, 90_000);
  await call.step("their media keys went encrypted from device to device", () => call.checkKeys([alice, bob]));
  await call.step("camera and microphone off and on", async () => {
    await bob.mute(false, false);
    await alice.missesOthers();
    await bob.mute(true, true);
    await alice.seesAndHears(1);
  });
  await call.step("a third one joins, all see and hear all", async () => {
    await carol.join(call.mode);
    await call.allMeet();
    await call.checkKeys();
    if (shots) await alice.screenshot(`${shots}/element-call-${call.mode}.png`);
  }, 90_000);
  await call.step("a killed browser is out of the call within 15 s, the others talk on", async () => {
    await victim.kill();
    await alice.knowsInCall([alice, bob], 15_000);
    await Promise.all([alice.seesAndHears(1), bob.seesAndHears(1)]);
  });
  await call.step("who hangs up is out at once", async () => {
    await bob.hangUp();
    await alice.knowsInCall([alice], 5000);
  });
  await call.step("nobody is left in the call at the end", () => call.end([alice]));
}

/** Two people of two servers: each publishes on the own server's media server and takes from the other's. */
async function twoServers(call, [home, other]) {
  const [alice, bob] = await call.must("users of two servers share an encrypted room", () => call.invite({ alice: home, bob: other }));
  const browser = await call.browser();
  await call.must("their clients start", async () => {
    for (const one of [alice, bob]) await one.open(browser, call);
  });
  await call.must("they see and hear each other", async () => {
    await alice.join(call.mode);
    await bob.join(call.mode);
    await call.allMeet();
  }, 90_000);
  await call.step("their media keys went encrypted from device to device", () => call.checkKeys());
  await call.step("nobody is left in the call at the end", () => call.end());
}

/** One who reaches the media server through the relay only, and one who does not need it. */
async function behindRelay(call, [home]) {
  const [alice, bob] = await call.must("two users share an encrypted room", () => call.invite({ alice: home, bob: home }));
  const browser = await call.browser();
  await call.must("their clients start", async () => {
    await alice.open(browser, call, { relayOnly: true });
    await bob.open(browser, call);
  });
  await call.must("they see and hear each other", async () => {
    for (const one of [alice, bob]) await one.join(call.mode);
    await call.allMeet();
  }, 90_000);
  await call.step("the one's media goes through the relay, the other's does not", async () => {
    const ways = [await alice.ways(), await bob.ways()];
    ensure(ways[0].length > 0 && ways[0].every((one) => one === "relay") && ways[1].every((one) => one !== "relay"), JSON.stringify(ways));
  });
  await call.step("nobody is left in the call at the end", () => call.end());
}

/** Five people, the last one of another server. */
async function fivePeople(call, [home, other]) {
  const people = await call.must("five users share an encrypted room, one of another server", () =>
    call.invite({ alice: home, bob: home, carol: home, dave: home, erin: other }));
  const browsers = [await call.browser(), await call.browser()];
  await call.must("their clients start", async () => {
    for (const [at, one] of people.entries()) await one.open(browsers[at % 2], call);
  });
  await call.step("all see and hear all", async () => {
    for (const one of people) await one.join(`tiny/${call.mode}`);
    // Twenty pictures to decode, and five to encode, on one machine.
    await call.allMeet(people, 180_000);
    if (shots) await people[0].screenshot(`${shots}/element-call-five.png`);
  }, 300_000);
  await call.step("nobody is left in the call at the end", () => call.end());
}

/** A call between two people without a media server, each behind the relay; `mode` is the way to it. */
async function telephone(call, [home]) {
  const [alice, bob] = await call.must("two users share an encrypted room", () => call.invite({ alice: home, bob: home }));
  const browser = await call.browser(["--ignore-certificate-errors"]);
  await call.must("their clients start", async () => {
    for (const one of [alice, bob]) await one.open(browser, call);
  });
  await call.must("they see and hear each other", async () => {
    for (const one of [alice, bob]) await one.telephone("prepare", call.mode);
    await alice.telephone("ring", call.roomId);
    for (const one of [alice, bob]) await until(`${one.name} connected`, async () => (await one.telephone("state")) === "connected");
    await Promise.all([alice, bob].map((one) => one.seesAndHears(1)));
  }, 90_000);
  await call.step("all goes through the relay", async () => {
    for (const one of [alice, bob]) {
      const way = await one.telephone("way");
      ensure(way.type === "relay" && way.over === call.mode && way.remote === "relay", `${one.name} goes by ${JSON.stringify(way)}`);
    }
  });
  await call.step("hanging up ends it for both", async () => {
    await alice.telephone("hangUp");
    for (const one of [alice, bob]) await until(`${one.name} at the end`, async () => (await one.telephone("state")) === "ended");
  });
}

const CALLS = [
  ...Object.keys(MODES).map((mode) => ({ title: mode, mode, run: threePeople })),
  { title: "two servers, compatibility", mode: "compatibility", run: twoServers },
  { title: "two servers, matrix_2_0", mode: "matrix_2_0", run: twoServers },
  { title: "behind a relay, compatibility", mode: "compatibility", run: behindRelay },
  ...["udp", "tcp", "tls"].map((way) => ({ title: `telephone over ${way}`, mode: way, run: telephone })),
  { title: "five people, compatibility", mode: "compatibility", run: fivePeople },
];

async function playAll() {
  const authority = makeAuthority(logFolder);
  const servers = [];
  for (const host of ["127.0.0.1", "127.0.0.2"]) {
    servers.push(await Homeserver.prepare({ binary: process.env.BINARY, folder: `${logFolder}/${host}`, host, authority }));
  }
  const site = await serveSite(import.meta.dirname);
  try {
    for (const server of servers) await server.start();
    for (const { title, mode, run } of CALLS.filter((one) => one.title.includes(process.env.ONLY ?? ""))) {
      const call = new Call({ site, logFolder }, mode, title);
      await run(call, servers).catch((error) => {
        if (!(error instanceof Abort)) fail(title, error.stack);
      });
      await call.close();
    }
  } finally {
    for (const server of servers) await server.stop().catch((error) => fail("the servers stop", error.message));
  }
}

const late = setTimeout(async () => {
  fail("the calls", `not done after ${ALL_LIMIT_MS / 60_000} min`);
  await closeBrowsers();
  finish();
}, ALL_LIMIT_MS);
await playAll().catch((error) => fail("the servers", error.stack));
clearTimeout(late);
await closeBrowsers();
finish();
