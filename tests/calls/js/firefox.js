// Headless Firefox with a fake camera and microphone, driven by WebDriver BiDi.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";
import { running } from "./browser.js";

const EXECUTABLE = process.env.FIREFOX ?? ["/usr/bin/firefox-esr", "/usr/bin/firefox"].find((path) => existsSync(path));
const PREFERENCES = {
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.autoplay.default": 0,
  "media.peerconnection.ice.obfuscate_host_addresses": false,
};

/** As `Browser`, of which this has what a stage needs. */
export class Firefox {
  static async start() {
    if (!EXECUTABLE) throw new Error("there is no Firefox: install firefox-esr, or set FIREFOX");
    const firefox = new Firefox();
    firefox.handle = await puppeteer.launch({
      browser: "firefox", executablePath: EXECUTABLE, headless: true, extraPrefsFirefox: PREFERENCES,
      timeout: 60_000, protocolTimeout: 120_000,
    });
    running.add(firefox);
    return firefox;
  }

  async page(url, log) {
    const context = await this.handle.createBrowserContext();
    const page = await context.newPage();
    if (log) page.on("console", (message) => log(`${message.type()}: ${message.text()}`));
    if (log) page.on("pageerror", (error) => log(`uncaught: ${error.stack ?? error}`));
    await page.goto(url, { timeout: 30_000 });
    return { evaluate: (work, ...values) => page.evaluate(work, ...values), context: () => context };
  }

  async kill() {
    running.delete(this);
    this.handle.process()?.kill("SIGKILL");
    await this.handle.close().catch(() => {});
  }
}
