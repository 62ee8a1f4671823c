// Which layer of a picture somebody gets, and which layers are sent at all.

import { ensure, until } from "../report.js";

async function publisherAndViewer(stage, publisherOptions = {}, viewerOptions = {}) {
  const alice = await stage.person("alice");
  const bob = await stage.person("bob");
  await Promise.all([alice.join({ options: publisherOptions }), bob.join({ options: viewerOptions })]);
  await alice.publish({ microphone: false });
  await bob.sees(alice);
  await until("both layers to be sent", async () => (await alice.layers()).filter((one) => one.frames > 10).length === 2);
  const [small, large] = await alice.layers();
  ensure(small.width < large.width, `the layers are ${small.width} and ${large.width} wide`);
  return { alice, bob, small: small.width, large: large.width };
}

async function viewerChooses(stage) {
  const { alice, bob, small, large } = await publisherAndViewer(stage);
  await bob.seesWidth(alice, (width) => width === large);
  for (let round = 0; round < 2; round++) {
    await bob.call("quality", "alice", "LOW");
    await bob.seesWidth(alice, (width) => width === small);
    await bob.call("quality", "alice", "HIGH");
    await bob.seesWidth(alice, (width) => width === large);
  }
}

async function sizeOfTheTile(stage) {
  const { alice, bob, small, large } = await publisherAndViewer(stage, {}, { adaptiveStream: { pixelDensity: 1 } });
  await bob.call("resize", "alice", 160);
  await bob.seesWidth(alice, (width) => width === small);
  await bob.call("resize", "alice", 640);
  await bob.seesWidth(alice, (width) => width === large);
  await bob.call("resize", "alice", 0);
  await bob.misses(alice);
  await bob.call("resize", "alice", 640);
  await bob.sees(alice, "camera", 5000);
  await bob.seesWidth(alice, (width) => width === large);
}

async function disabledAndEnabled(stage) {
  const { alice, bob } = await publisherAndViewer(stage);
  await bob.call("enable", "alice", "camera", false);
  await bob.misses(alice);
  ensure((await bob.track(alice, "camera")).subscribed, "the subscription was lost");
  await bob.call("enable", "alice", "camera", true);
  await bob.sees(alice, "camera", 5000);
}

async function onlyWhatIsWanted(stage) {
  const { alice, bob, small, large } = await publisherAndViewer(stage, { dynacast: true });
  const active = async (width) => (await alice.layers()).find((one) => one.width === width)?.active;
  const sending = async () => (await alice.layers()).map(({ active, width }) => `${width}:${active}`);
  const sends = async (what, check) => {
    await until(what, check, 30_000).catch(async (error) => { throw new Error(`${error.message}: ${await sending()}`); });
  };
  await bob.call("quality", "alice", "LOW");
  await bob.seesWidth(alice, (width) => width === small);
  await sends("the large layer to stop", async () => (await alice.layers()).at(-1).active === false);
  await bob.call("quality", "alice", "HIGH");
  await sends("the large layer to be sent", () => active(large));
  await bob.seesWidth(alice, (width) => width === large);
  await bob.call("enable", "alice", "camera", false);
  await sends("all layers to stop", async () => (await alice.layers()).every((one) => !one.active));
  const carol = await stage.person("carol");
  await carol.join();
  await carol.sees(alice, "camera", 10_000);
  await bob.call("enable", "alice", "camera", true);
  await bob.sees(alice, "camera", 10_000);
}

async function viewersDiffer(stage) {
  const { alice, bob, small, large } = await publisherAndViewer(stage);
  const carol = await stage.person("carol");
  await carol.join();
  await bob.call("quality", "alice", "LOW");
  await Promise.all([bob.seesWidth(alice, (width) => width === small), carol.seesWidth(alice, (width) => width === large)]);
}

async function qualityIsReported(stage) {
  const { bob, alice } = await publisherAndViewer(stage);
  const good = (one) => ["excellent", "good"].includes(one.quality);
  await bob.event("connectionQualityChanged", (one) => one.who === "bob" && good(one));
  await bob.event("connectionQualityChanged", (one) => one.who === "alice" && good(one));
  await alice.event("connectionQualityChanged", good);
}

export const quality = [
  ["a viewer chooses the layer", viewerChooses],
  ["two viewers get different layers", viewersDiffer],
  ["the size of the tile chooses the layer (adaptive stream)", sizeOfTheTile],
  ["a track is disabled and enabled", disabledAndEnabled],
  ["only wanted layers are sent (dynacast)", onlyWhatIsWanted],
  ["connection quality is reported", qualityIsReported],
];
