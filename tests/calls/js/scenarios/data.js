// Everything beside pictures and sound: messages, calls of procedures, names, who speaks.

import { ensure, sleep, until } from "../report.js";

async function three(stage) {
  const people = await Promise.all(["alice", "bob", "carol"].map((name) => stage.person(name)));
  await Promise.all(people.map((one) => one.join()));
  for (const one of people) for (const other of people) if (one !== other) await one.meets(other);
  return people;
}

async function reliable(stage) {
  const [alice, bob, carol] = await three(stage);
  await alice.call("send", "to all", { reliable: true, topic: "chat" });
  for (const one of [bob, carol]) {
    const message = await one.message("to all");
    ensure(message.from === "alice" && message.topic === "chat" && message.reliable, `${one.identity} got ${JSON.stringify(message)}`);
  }
  await carol.call("send", "x".repeat(14_000), { reliable: true });
  await alice.message("x".repeat(14_000));
  const sent = Array.from({ length: 200 }, (_, at) => `number ${at}`);
  for (const text of sent) await bob.call("send", text, { reliable: true });
  await alice.message("number 199");
  const got = (await alice.call("log")).messages.map((one) => one.text).filter((text) => text.startsWith("number"));
  ensure(got.join() === sent.join(), `alice got ${got.length} of 200 in this order: ${got.slice(0, 10)} …`);
}

async function toOne(stage) {
  const [alice, bob, carol] = await three(stage);
  await alice.call("send", "only for bob", { reliable: true, destinationIdentities: ["bob"] });
  await alice.call("send", "lossy for bob", { reliable: false, destinationIdentities: ["bob"] });
  await alice.call("send", "the end", { reliable: true });
  await bob.message("only for bob");
  await bob.message("lossy for bob");
  await carol.message("the end");
  await sleep(300);
  const { messages } = await carol.call("log");
  ensure(messages.length === 1, `carol read along: ${JSON.stringify(messages)}`);
}

async function lossy(stage) {
  const [alice, bob, carol] = await three(stage);
  for (let at = 0; at < 50; at++) await alice.call("send", `lossy ${at}`, { reliable: false });
  for (const one of [bob, carol]) {
    let got;
    await until(`most lossy messages at ${one.identity}`, async () => {
      got = (await one.call("log")).messages.filter((message) => message.text.startsWith("lossy"));
      return got.length >= 45;
    });
    ensure(got.every((message) => !message.reliable && message.from === "alice"), "they came as reliable ones");
    ensure(new Set(got.map((message) => message.text)).size === got.length, "some came twice");
  }
}

async function streamsAndProcedures(stage) {
  const [alice, bob, carol] = await three(stage);
  const essay = "All happy families are alike. ".repeat(2000);
  await alice.call("sendText", essay);
  await bob.message(essay);
  await carol.message(essay);
  const answer = await bob.call("shout", "alice", "hello");
  ensure(answer === "HELLO", `alice answered ${answer}`);
}

async function names(stage) {
  const [alice, bob] = await three(stage);
  await alice.call("describe", { name: "Alice L.", metadata: "m", attributes: { raised: "yes" } });
  await until("bob to read them", async () => {
    const seen = (await bob.view()).others.alice;
    return seen.name === "Alice L." && seen.metadata === "m" && seen.attributes.raised === "yes";
  });
  const dave = await stage.person("dave");
  await dave.join();
  await until("a later one to read them", async () => (await dave.view()).others.alice?.attributes.raised === "yes");
}

async function speakers(stage) {
  const [alice, bob] = await three(stage);
  await alice.call("publishTone");
  await bob.event("activeSpeakersChanged", (one) => one.speakers.join() === "alice");
  await alice.call("microphone", false);
  const since = await bob.eventCount();
  await bob.event("activeSpeakersChanged", (one) => one.speakers.length === 0, Math.max(0, since - 1));
}

export const data = [
  ["reliable messages, all and in order", reliable],
  ["messages to one participant", toOne],
  ["lossy messages", lossy],
  ["text streams and procedure calls", streamsAndProcedures],
  ["names, metadata and attributes", names],
  ["who speaks", speakers],
];
