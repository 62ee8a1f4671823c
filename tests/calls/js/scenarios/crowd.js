// Twenty people join at the same moment, three times.
//
// What is tried is the server: each of the twenty has an own peer connection, gets the tracks of all others, and is gone at
// the end. That one machine can be twenty people at once, every second one sends a picture a second and the others silence,
// nobody shows what arrives, and the driver asks seldom.

import { readFileSync } from "node:fs";
import { ensure, sleep, until } from "../report.js";

const CROWD = 20;
const PAGES = 4;
const SOURCES = ["microphone", "camera"];
const ASK_MS = 1000;
const LIMIT_MS = 180_000;
/** A storm holds up the browser's own connections, too: they are not to be given up for that. */
const PATIENCE = { peerConnectionTimeout: 90_000, websocketTimeout: 90_000 };

async function storms(stage) {
  const watcher = await stage.person("watcher");
  await watcher.join({ unseen: true });
  const pages = await Promise.all(Array.from({ length: PAGES }, (_, at) => stage.page(`page ${at}`)));
  const rounds = [];
  for (let round = 1; round <= 3; round++) {
    const crowd = Array.from({ length: CROWD }, (_, at) => stage.beside(pages[at % PAGES], `r${round}-${at}`));
    const [started, used] = [Date.now(), processorTime(stage.server.pid)];
    await Promise.all(crowd.map(async (one, at) => {
      await one.join({ unseen: true, connect: PATIENCE });
      await one.call("publishTrifle", SOURCES[at % 2]);
    }));
    const entered = Date.now();
    let counts;
    const everything = [watcher, ...crowd].map((one) => {
      const own = crowd.indexOf(one);
      return [CROWD, ...SOURCES.map((_, kind) => CROWD / 2 - (own % 2 === kind ? 1 : 0))].join();
    });
    await until(`everybody to get the sound and pictures of everybody in round ${round}`, async () => {
      await sleep(ASK_MS);
      counts = await Promise.all([watcher, ...crowd].map((one) => one.call("count")));
      return counts.join(" ") === everything.join(" ");
    }, LIMIT_MS).catch((error) => { throw new Error(`${error.message}; they get ${counts.join(" ")}`); });
    rounds.push({ entered: entered - started, met: Date.now() - started, used: processorTime(stage.server.pid) - used });
    await Promise.all(crowd.map((one) => one.leave()));
    await until("the watcher to be alone", async () => (await watcher.call("count"))[0] === 0);
    stage.people = [watcher];
  }
  const { state, events } = await watcher.call("log");
  ensure(state === "connected" && !events.some((one) => /reconnecting/i.test(one.event)), "the watcher's connection broke");
  return rounds.map(({ entered, met, used }) =>
    `in after ${seconds(entered)}, all had all after ${seconds(met)} (server: ${seconds(used)} of processor time)`).join("; ");
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** The milliseconds of processor time that a process has used. */
function processorTime(pid) {
  const TICK_MS = 10;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

export const crowd = [["twenty people join at once, three times", storms, 900_000]];
