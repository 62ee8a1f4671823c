// Twenty people join at once, three times.

import { ensure, until } from "../report.js";

const CROWD = 20;
const PAGES = 4;

async function storms(stage) {
  const watcher = await stage.person("watcher");
  await watcher.join();
  await watcher.call("publishTone");
  const pages = await Promise.all(Array.from({ length: PAGES }, (_, at) => stage.page(`page ${at}`)));
  const times = [];
  for (let round = 1; round <= 3; round++) {
    const crowd = Array.from({ length: CROWD }, (_, at) => stage.beside(pages[at % PAGES], `r${round}-${at}`));
    const started = Date.now();
    await Promise.all(crowd.map(async (one) => {
      await one.join();
      await one.call("publishTone");
    }));
    await until(`everybody to hear everybody in round ${round}`, async () => {
      const counts = await Promise.all([watcher, ...crowd].map(heard));
      return counts.every((count) => count === CROWD);
    }, 60_000).catch(async (error) => {
      throw new Error(`${error.message}; they hear ${await Promise.all([watcher, ...crowd].map(heard))}`);
    });
    times.push(`${Math.round((Date.now() - started) / 100) / 10} s`);
    await Promise.all(crowd.map((one) => one.leave()));
    await until("the watcher to be alone", async () => Object.keys((await watcher.view()).others).length === 0, 15_000);
    stage.people = [watcher, stage.people.at(-1)];
  }
  ensure((await watcher.call("log")).state === "connected", "the watcher lost the connection");
  return `all heard all after ${times.join(", ")}`;
}

/** From how many others sound has come. */
async function heard(person) {
  const { others } = await person.view();
  return Object.values(others).filter((one) => one.tracks.microphone?.packets > 0).length;
}

export const crowd = [["twenty people join at once, three times", storms, 240_000]];
