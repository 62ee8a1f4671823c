// One user with a page that hosts Element Call, and the homeserver's plain API for what needs no page.

import { appendFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { ensure, sleep, until } from "../report.js";

const FRAMES = fileURLToPath(new URL("frames.js", import.meta.url));

/** One request to the homeserver, with a token or without. */
export async function ask(homeserver, method, path, { token, body } = {}) {
  const answer = await fetch(`${homeserver}/_matrix/client/v3${path}`, {
    method, body: body && JSON.stringify(body),
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
  });
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(`${method} ${path}: ${answer.status} ${content.errcode} ${content.error ?? ""}`), { content });
  return content;
}

export async function register(homeserver, username) {
  const body = { username, password: "correct horse battery staple" };
  const send = (more) => ask(homeserver, "POST", "/register", { body: { ...body, ...more } });
  return send({}).catch((error) => {
    if (!error.content?.session) throw error;
    return send({ auth: { type: "m.login.dummy", session: error.content.session } });
  });
}

export class Caller {
  constructor({ homeserver, session, name, logFolder }) {
    Object.assign(this, { homeserver, session, name });
    this.log = `${logFolder}/${name}.log`;
  }

  get userId() { return this.session.user_id; }

  ask(method, path, body) { return ask(this.homeserver, method, path, { token: this.session.access_token, body }); }

  /** Opens the host page in the browser and starts its client. */
  async open(browser, { stage: { site }, roomId }, { relayOnly = false } = {}) {
    const write = (line) => appendFile(this.log, `${new Date().toISOString()} ${line}\n`).catch(() => {});
    this.browser = browser;
    this.page = await browser.page("about:blank", write);
    if (relayOnly) await this.page.addInitScript(() => { window.relayOnly = true; });
    await this.page.addInitScript({ path: FRAMES });
    await this.page.setViewportSize({ width: 800, height: 600 });
    await this.page.goto(`${site.url}/host.html`);
    await this.page.waitForFunction(() => window.hostReady, undefined, { timeout: 20_000 });
    await this.page.evaluate((input) => window.host.logIn(input), { homeserver: this.homeserver, session: this.session, roomId });
    this.roomId = roomId;
  }

  async join(mode, parameters) {
    const input = { homeserver: this.homeserver, roomId: this.roomId, folder: `ec/${mode}`, parameters };
    await this.page.evaluate((values) => window.host.join(values), input);
  }

  hangUp() { return this.page.evaluate(() => window.host.hangUp()); }

  mute(audio, video) { return this.page.evaluate(([one, other]) => window.host.mute(one, other), [audio, video]); }

  notes() { return this.page.evaluate(() => window.host.notes()); }

  memberships() { return this.page.evaluate((roomId) => window.host.memberships(roomId), this.roomId); }

  /** The memberships of the call that the server keeps in the room's state: no ghost may stay among them. */
  async serverMemberships() {
    const state = await this.ask("GET", `/rooms/${encodeURIComponent(this.roomId)}/state`);
    return state.filter((event) => event.type === "org.matrix.msc3401.call.member" && Object.keys(event.content).length > 0);
  }

  /** Calls a method of `Telephone` (telephone.js). */
  telephone(...parameters) { return this.page.evaluate((values) => window.host.telephone(...values), parameters); }

  /** The kinds of addresses over which this user's media goes: "host", "relay". */
  async ways() { return (await Promise.all(this.page.frames().map((frame) => frame.evaluate(() => window.ways())))).flat(); }

  /** What comes in from others: in Element Call's frame, and in the page itself, which telephones. */
  async incoming() {
    const tracks = [];
    for (const frame of this.page.frames()) {
      const here = await frame.evaluate(() => window.incoming?.()).catch(() => undefined); // a frame may just be going
      for (const one of here ?? []) tracks.push({ ...one, id: `${frame === this.page.mainFrame() ? "page" : "frame"}/${one.id}` });
    }
    return tracks;
  }

  /** Waits until pictures and sound of so many others arrive, decrypted and decoded. */
  async seesAndHears(others, limit = 60_000) {
    const before = new Map((await this.incoming()).map((one) => [one.id, one]));
    let flowing;
    await until("it", async () => {
      flowing = { video: 0, audio: 0 };
      for (const one of await this.incoming()) {
        const old = before.get(one.id) ?? { frames: 0, energy: 0 };
        if (one.kind === "video" && one.frames - old.frames >= 10) flowing.video += 1;
        if (one.kind === "audio" && one.energy - old.energy > 1e-4) flowing.audio += 1;
      }
      return flowing.video >= others && flowing.audio >= others;
    }, limit).catch(async () => {
      throw new Error(`${this.name} has ${JSON.stringify(flowing)} of ${others} others: ${JSON.stringify(await this.incoming())}`);
    });
    ensure(flowing.video === others && flowing.audio === others, `${this.name} has ${JSON.stringify(flowing)} of ${others} others`);
  }

  /** Waits until nothing of the others arrives any more: no picture decoded and no sound over 1.5 s. */
  async missesOthers() {
    const sum = async () => (await this.incoming()).reduce((total, one) => total + one.frames + one.energy, 0);
    let last = await sum();
    await until(`${this.name} to see and hear nobody`, async () => {
      const before = last;
      await sleep(1500);
      last = await sum();
      return last === before;
    }, 20_000);
  }

  /** Waits until the room's events say that exactly these users are in the call. */
  async knowsInCall(callers, limit) {
    const wanted = callers.map((one) => one.userId).sort().join();
    let now;
    await until("it", async () => (now = (await this.memberships()).join()) === wanted, limit)
      .catch(() => { throw new Error(`${this.name} takes for members of the call: ${now || "nobody"}`); });
  }

  screenshot(path) { return this.page.screenshot({ path, timeout: 10_000 }); }

  async describe(what) {
    await appendFile(this.log, `== ${what}\nnotes: ${JSON.stringify(await this.notes().catch(String))}\nincoming: ${JSON.stringify(await this.incoming().catch(String))}\n`);
    await this.screenshot(this.log.replace(/\.log$/, ".png")).catch(() => {});
  }

  async close() { await this.page?.context().close().catch(() => {}); }
}
