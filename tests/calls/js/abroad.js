// livekit-client in browsers that are in network namespaces of their own, in a call of a whole Conduit.
// Environment: PEOPLE (JSON: who joins, from which namespace, where, with which token, and by which way the media must go),
// TITLE, SITE (the folder of the page), LOGS (a folder).

import { closeBrowsers } from "./browser.js";
import { allMeet } from "./person.js";
import { ensure, finish, must, step } from "./report.js";
import { Stage } from "./stage.js";

const LIMIT_MS = 120_000;
const { TITLE: title, SITE: site, LOGS: logFolder } = process.env;
const wanted = JSON.parse(process.env.PEOPLE);

/** Each has the token already. */
const server = {
  url: "http://localhost",
  admit: async (_, identity) => wanted.find((one) => one.identity === identity),
};
const stage = new Stage({ server, mode: { client: "newest", single: true }, name: title, logFolder });

async function enter() {
  const people = await Promise.all(wanted.map(async ({ identity, machine }) =>
    stage.person(identity, { browser: await stage.ownBrowser([], { machine, site }) })));
  await Promise.all(people.map((one, at) => one.join({ connect: { rtcConfig: restriction(wanted[at].way) } })));
  await Promise.all(people.map((one) => one.publish()));
  return people;
}

/** Without a relay, or by it alone: which one a browser takes where both can be had, is its own affair. */
function restriction({ relay }) {
  return relay ? { iceTransportPolicy: "relay" } : { iceServers: [] };
}

function name({ protocol, relay }) {
  return relay ? `the relay over ${relay}` : protocol;
}

async function goTheirWays(people) {
  for (const [at, { way }] of wanted.entries()) {
    const ways = (await people[at].transports()).filter((one) => one.protocol);
    const fits = (one) => one.protocol === way.protocol && one.relay === way.relay && one.address === way.address;
    ensure(ways.length > 0 && ways.every(fits), `the media of ${people[at].identity} go by ${JSON.stringify(ways)}`);
  }
}

try {
  const people = await must(`${title}: two browsers join and publish`, enter, LIMIT_MS);
  await step(`${title}: they see and hear each other`, () => allMeet(people), LIMIT_MS);
  await step(`${title}: the one over ${wanted.map(({ way }) => name(way)).join(", the other over ")}`, () => goTheirWays(people));
  const [alice, bob] = people;
  await step(`${title}: who leaves is gone`, async () => { await bob.leave(); await alice.loses(bob); });
} catch (error) {
  console.log(error.message);
  await stage.describe();
}
await stage.clear();
await closeBrowsers();
finish();
