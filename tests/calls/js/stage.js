// What one scenario runs on: a room of its own, browsers that are started when needed, and people in pages.

import { appendFile } from "node:fs/promises";
import { Browser } from "./browser.js";
import { Firefox } from "./firefox.js";
import { Link } from "./link.js";
import { Person } from "./person.js";

/** Browsers that all scenarios share; those with their own flags, or to be killed, belong to one stage. */
export class House {
  constructor() {
    this.shared = new Map();
  }

  async browser(kind = Browser) {
    if (!this.shared.has(kind)) this.shared.set(kind, kind.start());
    return this.shared.get(kind);
  }
}

export class Stage {
  /** @param mode { client: "pinned" | "newest", single: whether one peer connection carries all, firefox: who is in Firefox } */
  constructor({ house, server, mode, name, logFolder }) {
    Object.assign(this, { house, server, ...mode });
    const file = `${mode.client}-${mode.single ? "v1" : "v0"}-${name.replaceAll(/[^a-z0-9]+/gi, "-")}`;
    this.room = `${file}-${process.pid}`;
    this.log = `${logFolder}/${file}.log`;
    this.people = [];
    this.links = [];
    this.browsers = [];
  }

  /** A participant in a page of its own, who has not joined yet; `browser` is one of `ownBrowser`. */
  async person(identity, { browser } = {}) {
    const page = await this.page(identity, browser);
    return this.beside(page, identity);
  }

  async page(title, browser) {
    browser ??= await this.house.browser(this.firefox?.includes(title) ? Firefox : Browser);
    const write = (line) => appendFile(this.log, `${new Date().toISOString()} [${title}] ${line}\n`).catch(() => {});
    const trace = process.env.VERBOSE ? "&trace" : "";
    return browser.page(`${this.server.url}/participant.html?client=${this.client}${trace}`, write);
  }

  /** A further participant in a page. */
  beside(page, identity) {
    const person = new Person(this, page, identity);
    this.people.push(person);
    return person;
  }

  async ownBrowser(flags, options) {
    const browser = await Browser.start(flags, options);
    this.browsers.push(browser);
    return browser;
  }

  async link() {
    const link = await Link.open(this.server.port);
    this.links.push(link);
    return link;
  }

  /** Writes down what everybody saw, for whoever looks into a failure. */
  async describe() {
    for (const person of this.people) {
      const say = async (what, question) => {
        const answer = await bounded(question).catch((error) => `? ${error.message}`);
        await appendFile(this.log, `== ${person.identity} ${what}: ${JSON.stringify(answer)}\n`);
      };
      await say("view", person.view());
      await say("log", person.call("log"));
      await say("transports", person.transports());
      await say("sends of the camera", person.call("sent", "camera"));
    }
  }

  async clear() {
    await Promise.allSettled(this.people.map((person) => bounded(person.leave())));
    const contexts = new Set(this.people.map((person) => person.page.context()));
    await Promise.allSettled([...contexts].map((context) => bounded(context.close())));
    await Promise.allSettled(this.browsers.map((browser) => browser.kill()));
    for (const link of this.links) link.close();
  }
}

function bounded(question) {
  let timer;
  const limit = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("no answer")), 5000); });
  return Promise.race([question, limit]).finally(() => clearTimeout(timer));
}
