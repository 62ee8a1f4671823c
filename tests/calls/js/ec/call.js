// One call of Element Call: its users, their room and browsers, and what they must see and hear.

import { Browser } from "../browser.js";
import { ensure, must, step, until } from "../report.js";
import { Caller, register } from "./caller.js";

const KEYS = "io.element.call.encryption_keys";

export class Call {
  /** @param stage { site, logFolder } @param mode a mode of site.js */
  constructor(stage, mode, title) {
    Object.assign(this, { stage, mode, title });
    this.callers = [];
    this.browsers = [];
  }

  /** Registers users (name → homeserver) and puts them into an encrypted room, which the first one makes. */
  async invite(names) {
    for (const [name, { url }] of Object.entries(names)) {
      const full = `${name}-${this.title}-${process.pid}`.replaceAll(/[^a-z0-9-]/g, "");
      const session = await register(url, full);
      const caller = new Caller({ homeserver: url, session, name: full, logFolder: this.stage.logFolder });
      const displayname = name[0].toUpperCase() + name.slice(1);
      await caller.ask("PUT", `/profile/${encodeURIComponent(caller.userId)}/displayname`, { displayname });
      this.callers.push(caller);
    }
    const [first, ...others] = this.callers;
    const { room_id: roomId } = await first.ask("POST", "/createRoom", {
      preset: "private_chat", name: "The call", invite: others.map((one) => one.userId),
      initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    const via = first.userId.slice(first.userId.indexOf(":") + 1);
    for (const one of others) {
      const path = `/join/${encodeURIComponent(roomId)}?server_name=${encodeURIComponent(via)}`;
      await until(`${one.name} in the room`, () => one.ask("POST", path, {}).then(() => true, () => false));
    }
    this.roomId = roomId;
    return this.callers;
  }

  async browser(flags) {
    const browser = await Browser.start(flags);
    this.browsers.push(browser);
    return browser;
  }

  /** A step of the call; when it fails, what everybody saw is written down. */
  async attempt(kind, name, work, limit) {
    return kind(`${this.title}: ${name}`, async () => {
      try {
        return await work();
      } catch (error) {
        for (const one of this.callers) if (one.page && !one.page.isClosed()) await one.describe(name).catch(() => {});
        throw error;
      }
    }, limit);
  }

  step(name, work, limit) { return this.attempt(step, name, work, limit); }

  must(name, work, limit) { return this.attempt(must, name, work, limit); }

  async allMeet(callers = this.callers, limit = undefined) {
    await Promise.all(callers.map((one) => one.seesAndHears(callers.length - 1, limit)));
    await Promise.all(callers.map((one) => one.knowsInCall(callers)));
  }

  /** Each one's media key went to each other one, encrypted, and nobody's went in the clear. */
  async checkKeys(callers = this.callers) {
    for (const one of callers) {
      const keys = (await one.notes()).filter((note) => note.type === KEYS);
      ensure(keys.every((note) => note.encrypted), `${one.name} sent or got a media key in the clear`);
      for (const other of callers) {
        if (one === other) continue;
        ensure(keys.some((note) => note.what === "toDevice" && note.userId === other.userId), `${one.name} sent no media key to ${other.name}`);
        ensure(keys.some((note) => note.what === "toDeviceReceived" && note.sender === other.userId), `${one.name} got no media key of ${other.name}`);
      }
    }
  }

  /** Everybody hangs up; afterwards neither the clients nor the servers know of anybody in the call. */
  async end(callers = this.callers) {
    for (const one of callers) await one.hangUp();
    for (const one of callers) await one.knowsInCall([], 10_000);
    for (const one of callers) {
      await until(`no membership to be left at the server of ${one.name}`, async () => (await one.serverMemberships()).length === 0, 10_000);
    }
  }

  async close() {
    for (const one of this.callers) await one.close();
    await Promise.allSettled(this.browsers.map((browser) => browser.kill()));
  }
}
