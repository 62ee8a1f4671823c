// Headless Chromium with a fake camera and microphone.

import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--auto-select-desktop-capture-source=Entire screen",
  "--mute-audio",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  // Several people share a browser: none of their pages may be treated as one in the background.
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];

const WITHIN = fileURLToPath(new URL("within.sh", import.meta.url));

/** Browsers that still run. */
export const running = new Set();

export class Browser {
  /**
   * Starts a browser; `flags` are added to the usual ones. `machine` is a network namespace in which it runs; with `site`,
   * http://localhost is the files of that folder, so that a page needs no server to come from.
   */
  static async start(flags = [], { machine, site } = {}) {
    const server = await chromium.launchServer({
      executablePath: machine ? WITHIN : EXECUTABLE, env: { ...process.env, MACHINE: machine ?? "", EXECUTABLE },
      headless: true, args: [...FLAGS, ...flags], timeout: 60_000,
    });
    const browser = new Browser();
    browser.server = server;
    browser.site = site;
    browser.handle = await chromium.connect(server.wsEndpoint());
    running.add(browser);
    return browser;
  }

  /** Opens a page of its own profile; `log` gets each line of its console. */
  async page(url, log) {
    const context = await this.handle.newContext({ ignoreHTTPSErrors: true, permissions: ["camera", "microphone"] });
    if (this.site) {
      const file = (request) => `${this.site}${new URL(request.url()).pathname}`;
      await context.route("http://localhost/**", (route) => route.fulfill({ path: file(route.request()) }));
    }
    const page = await context.newPage();
    if (log) page.on("console", (message) => log(`${message.type()}: ${message.text()}`));
    if (log) page.on("pageerror", (error) => log(`uncaught: ${error.stack ?? error}`));
    await page.goto(url, { timeout: 30_000 });
    return page;
  }

  /** Ends the browser at once (SIGKILL), so that it can say goodbye to nobody. */
  async kill() {
    running.delete(this);
    await this.server.kill();
  }

  async close() {
    running.delete(this);
    await this.server.close();
  }
}

/** Ends what still runs. */
export async function closeBrowsers() {
  await Promise.allSettled([...running].map((browser) => browser.kill()));
}
