// One participant in a page, with the questions a scenario asks about what the participant sees and hears.

import { ensure, sleep, until } from "./report.js";

const PICTURES = 10; // so many more must be decoded before "sees" is true

export class Person {
  constructor(stage, page, identity) {
    this.stage = stage;
    this.page = page;
    this.identity = identity;
  }

  /** Calls a method of `Participant` (page/participant.js). */
  call(method, ...parameters) {
    return this.page.evaluate(([identity, name, values]) => window.call(identity, name, values), [this.identity, method, parameters]);
  }

  /** Joins the stage's room; gives the milliseconds it took. `link` leads through a wire of the driver's. */
  async join({ options = {}, connect, secret, unseen, link, limits, room = this.stage.room } = {}) {
    const { url, token } = await this.stage.server.admit(room, this.identity, { link, limits });
    return this.call("join", { url, token, connect, secret, unseen, options: { singlePeerConnection: this.stage.single, ...options } });
  }

  async publish({ camera = true, microphone = true } = {}) {
    if (microphone) await this.call("microphone", true);
    if (camera) await this.call("camera", true);
  }

  view() { return this.call("view"); }

  async track(other, source) {
    return (await this.view()).others[other.identity]?.tracks[source];
  }

  async knows(other) { return other.identity in (await this.view()).others; }

  /** Waits until pictures of the other one arrive, and gives what the browser counted. */
  sees(other, source = "camera", limit = undefined) {
    return this.counts(other, source, "pictures", "frames", PICTURES, limit);
  }

  /** Waits until the beeps of the other one's fake microphone are heard. */
  hears(other, limit = undefined) {
    return this.counts(other, "microphone", "sound", "energy", 1e-4, limit);
  }

  async counts(other, source, what, field, more, limit) {
    let start = (await this.track(other, source))?.[field] ?? 0;
    let now;
    try {
      return await until("it", async () => {
        now = await this.track(other, source);
        const count = now?.[field] ?? 0;
        if (count < start) start = 0; // another receiver, which counts from nothing
        return count - start >= more && now;
      }, limit);
    } catch (error) {
      throw new Error(`no ${what} (${source}) of ${other.identity} at ${this.identity} within the time; last: ${JSON.stringify(now)}`, { cause: error });
    }
  }

  /** Waits until nothing of a track arrives any more: the same count over 1.5 s. */
  async misses(other, source = "camera") {
    const field = source === "microphone" ? "energy" : "frames";
    let last;
    await until(`${this.identity} to get nothing of the ${source} of ${other.identity}`, async () => {
      const before = last ?? (await this.track(other, source))?.[field] ?? 0;
      await sleep(1500);
      last = (await this.track(other, source))?.[field] ?? 0;
      return last === before;
    }, 20_000);
  }

  /** Waits for the width of the pictures. */
  async seesWidth(other, wanted, source = "camera") {
    let width;
    await until("it", async () => {
      width = (await this.track(other, source))?.width;
      return wanted(width);
    }).catch(() => { throw new Error(`${this.identity} still gets pictures ${width} wide of ${other.identity}`); });
    await this.sees(other, source);
    return width;
  }

  /** Waits for an event that `fits`; those before `since` (an index into the events) do not count. */
  async event(name, fits = () => true, since = 0, limit = undefined) {
    let events;
    return until(`the event ${name} at ${this.identity}`, async () => {
      ({ events } = await this.call("log"));
      return events.slice(since).find((one) => one.event === name && fits(one));
    }, limit);
  }

  async eventCount() { return (await this.call("log")).events.length; }

  async message(text) {
    return until(`${JSON.stringify(text.slice(0, 40))} at ${this.identity}`, async () =>
      (await this.call("log")).messages.find((one) => one.text === text));
  }

  /** Waits until the other one is known, or gone. */
  async meets(other, limit) {
    await until(`${this.identity} to know ${other.identity}`, () => this.knows(other), limit);
  }

  async loses(other, limit) {
    await until(`${other.identity} to be gone for ${this.identity}`, async () => !(await this.knows(other)), limit);
  }

  transports() { return this.page.evaluate(() => window.transports()); }

  /** The number of media lines of all peer connections of the page. */
  async lines() { return (await this.transports()).reduce((sum, one) => sum + one.lines, 0); }

  /** The layers that are sent of a source, the smallest first. */
  async layers(source = "camera") {
    return (await this.call("sent", source)).sort((one, other) => one.width - other.width);
  }

  /** The mean colour of what a tile shows. */
  async showsColour(other, source, [red, green, blue]) {
    let seen;
    await until("it", async () => {
      seen = await this.call("colour", other.identity, source);
      return Math.abs(seen[0] - red) < 70 && Math.abs(seen[1] - green) < 70 && Math.abs(seen[2] - blue) < 70;
    }, 15_000).catch(() => { throw new Error(`the tile of ${other.identity} shows the colour ${seen}`); });
  }

  async leave() { await this.call("leave"); }
}

/** Each of the people sees and hears each other one. */
export async function allMeet(people, { camera = true, microphone = true } = {}) {
  const questions = [];
  for (const one of people) {
    for (const other of people) {
      if (one === other) continue;
      if (camera) questions.push(one.sees(other));
      if (microphone) questions.push(one.hears(other));
    }
  }
  const failed = (await Promise.allSettled(questions)).filter((one) => one.status === "rejected");
  ensure(failed.length === 0, failed.map((one) => one.reason.message).join("; "));
}
