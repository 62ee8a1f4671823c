// livekit-client in real browsers against the media server alone (the example `bare` of the crate `sfu`).
// Environment: SERVER (its base URL), SERVER_PID, ONLY (part of a scenario's name), MODES ("pinned-v1,firefox-v0"), LOGS (a
// folder).

import { closeBrowsers } from "./browser.js";
import { fail, finish, step } from "./report.js";
import { House, Stage } from "./stage.js";
import { connection } from "./scenarios/connection.js";
import { crowd } from "./scenarios/crowd.js";
import { data } from "./scenarios/data.js";
import { encryption } from "./scenarios/encryption.js";
import { media } from "./scenarios/media.js";
import { power } from "./scenarios/power.js";
import { quality } from "./scenarios/quality.js";

const ALL_LIMIT_MS = 3_600_000;
const SCENARIO_LIMIT_MS = 120_000;
const MODES = {
  "pinned-v1": { client: "pinned", single: true },
  "pinned-v0": { client: "pinned", single: false },
  "newest-v1": { client: "newest", single: true },
  "newest-v0": { client: "newest", single: false },
  "firefox-v1": { client: "newest", single: true, firefox: ["alice"] },
  "firefox-v0": { client: "newest", single: false, firefox: ["alice"] },
};
const COMMON = [...media, ...quality, ...data, ...encryption, ...power, ...connection];
// The crowd tries the server, whichever browser it is in.
const scenarios = ({ firefox }) => (firefox ? COMMON : [...COMMON, ...crowd]);

class Server {
  constructor(url, pid) {
    this.url = url;
    this.pid = pid;
    this.port = Number(new URL(url).port);
  }

  /** A token for the room and where to take it; `limits` such as { publish: 0 } narrow what it allows. */
  async admit(room, identity, { link, limits } = {}) {
    const query = new URLSearchParams({ room, identity, ...limits });
    const answer = await fetch(`${this.url}/token?${query}`);
    if (!answer.ok) throw new Error(`/token answers ${answer.status}`);
    return { token: (await answer.text()).trim(), url: `ws://127.0.0.1:${link?.port ?? this.port}/sfu` };
  }

  /** Orders what an operator can: `disconnect` or `mute`. */
  async order(what, parameters) {
    const answer = await fetch(`${this.url}/${what}?${new URLSearchParams(parameters)}`, { method: "POST" });
    if (!answer.ok) throw new Error(`/${what} answers ${answer.status}`);
  }
}

async function play(scenario, shared, mode, label) {
  const [name, run, limit = SCENARIO_LIMIT_MS] = scenario;
  const stage = new Stage({ ...shared, mode, name });
  await step(`${label}: ${name}`, async () => {
    try {
      const said = await run(stage);
      if (said) console.log(`   ${said}`);
    } catch (error) {
      await stage.describe();
      throw error;
    }
  }, limit);
  await stage.clear();
}

const shared = { house: new House(), server: new Server(process.env.SERVER, process.env.SERVER_PID), logFolder: process.env.LOGS };
const modes = process.env.MODES.split(",");
const only = process.env.ONLY ?? "";
setTimeout(async () => {
  fail("the scenarios", `not done after ${ALL_LIMIT_MS / 60_000} min`);
  await closeBrowsers();
  finish();
}, ALL_LIMIT_MS).unref();
for (const label of modes) {
  for (const scenario of scenarios(MODES[label])) {
    if (scenario[0].includes(only)) await play(scenario, shared, MODES[label], label);
  }
}
await closeBrowsers();
finish();
