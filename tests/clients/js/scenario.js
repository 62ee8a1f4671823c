// Two users with two devices each chat through the JavaScript SDK (/sync v3) against a running server.
// Environment: HOMESERVER (base URL), IMAGE (path of a PNG), RESTART (shell command that restarts the server).

import { exec } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { Abort, ensure, fail, finish, must, step, until } from "./report.js";
import { Device, PASSWORD, everyoneReads, login, register } from "./device.js";

const SCENARIO_LIMIT_MS = 480_000;
const suffix = process.pid;
const aliceName = `js-alice-${suffix}`;
const bobName = `js-bob-${suffix}`;

async function logIn() {
  const alice1 = await must("register alice", () => register(aliceName, "alice phone"));
  const bob1 = await must("register bob", () => register(bobName, "bob phone"));
  const alice2 = await must("log in alice's second device", () => login(aliceName, "alice desk"));
  const bob2 = await must("log in bob's second device", () => login(bobName, "bob desk"));
  await step("a taken name is refused", async () => {
    const error = await register(aliceName, "thief").then(() => undefined, (error) => error);
    ensure(error?.errcode === "M_USER_IN_USE", `got ${error?.errcode ?? "a session"}`);
  });
  await step("a wrong password is refused", async () => {
    const error = await login(bobName, "thief", "wrong").then(() => undefined, (error) => error);
    ensure(error?.errcode === "M_FORBIDDEN", `got ${error?.errcode ?? "a session"}`);
  });
  const world = { alice1, alice2, bob1, bob2, all: [alice1, alice2, bob1, bob2] };
  await must("start crypto and sync on four devices", async () => {
    for (const device of world.all) await device.start();
  });
  return world;
}

async function createRooms({ alice1, bob1, bob2 }) {
  const invite = [bob1.userId];
  const rooms = {};
  await must("create a space with two channels", async () => {
    const create = async (options) => (await alice1.client.createRoom({ preset: "private_chat", invite, ...options })).room_id;
    rooms.space = await create({ name: "Our space", creation_content: { type: "m.space" } });
    rooms.general = await create({ name: "general", topic: "everything" });
    rooms.random = await create({ name: "random" });
    const via = { via: [alice1.userId.split(":").slice(1).join(":")] };
    for (const channel of [rooms.general, rooms.random]) {
      await alice1.client.sendStateEvent(rooms.space, "m.space.child", via, channel);
      await alice1.client.sendStateEvent(channel, "m.space.parent", via, rooms.space);
    }
  });
  await must("bob sees the invites on both devices", async () => {
    for (const device of [bob1, bob2]) {
      for (const room of Object.values(rooms)) await device.room(room, "invite");
    }
  });
  await must("bob joins and both devices know", async () => {
    for (const room of Object.values(rooms)) await bob1.client.joinRoom(room);
    for (const device of [bob1, bob2]) {
      for (const room of Object.values(rooms)) await device.room(room, "join");
    }
  });
  await step("names, topic and members are in the state", async () => {
    const room = await bob2.room(rooms.general);
    await until("the name", () => room.name === "general");
    const topic = room.currentState.getStateEvents("m.room.topic", "")?.getContent().topic;
    ensure(topic === "everything", `the topic is ${topic}`);
    await room.loadMembersIfNeeded();
    ensure(room.getJoinedMemberCount() === 2, `${room.getJoinedMemberCount()} members`);
  });
  await step("the space hierarchy lists both channels", async () => {
    const { rooms: listed } = await bob1.client.getRoomHierarchy(rooms.space);
    const ids = listed.map((room) => room.room_id);
    for (const room of Object.values(rooms)) ensure(ids.includes(room), `${room} is missing in ${ids}`);
  });
  return rooms;
}

async function chat({ alice1, alice2, bob1, bob2, all }, { general, random }) {
  const first = await must("a message reaches all devices", async () => {
    const id = await alice1.text(general, "hello bob");
    await everyoneReads(all, general, id, "hello bob");
    return id;
  });
  await step("an edit reaches all devices", async () => {
    await alice2.send(general, "m.room.message", {
      msgtype: "m.text", body: "* hello robert", "m.new_content": { msgtype: "m.text", body: "hello robert" },
      "m.relates_to": { rel_type: "m.replace", event_id: first },
    });
    for (const device of all) {
      const event = await device.event(general, first);
      await until("the new text", () => event.replacingEvent() && event.getContent().body === "hello robert");
    }
  });
  await step("a reaction reaches all devices", async () => {
    await bob1.send(general, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "👍" } });
    for (const device of all) {
      const room = await device.room(general);
      await until("the reaction", () =>
        room.relations.getChildEventsForEvent(first, "m.annotation", "m.reaction")?.getSortedAnnotationsByKey()
          ?.some(([key, events]) => key === "👍" && events.size === 1));
    }
    const listed = await alice1.client.relations(general, first, "m.annotation", "m.reaction");
    ensure(listed.events.length === 1, `/relations gives ${listed.events.length} reactions`);
  });
  await step("a reply reaches all devices", async () => {
    const id = await bob2.send(general, "m.room.message", {
      msgtype: "m.text", body: "hello alice", "m.relates_to": { "m.in_reply_to": { event_id: first } },
    });
    for (const device of all) {
      const event = await device.event(general, id);
      ensure(event.replyEventId === first, `it replies to ${event.replyEventId}`);
    }
  });
  await step("a thread reply reaches all devices", async () => {
    // A client opens the thread before it writes into it; the SDK files the own message only then.
    (await bob2.room(general)).createThread(first, await bob2.event(general, first), [], true);
    const id = await bob2.send(general, "m.room.message", {
      msgtype: "m.text", body: "in a thread",
      "m.relates_to": { rel_type: "m.thread", event_id: first, is_falling_back: true, "m.in_reply_to": { event_id: first } },
    });
    for (const device of all) {
      const room = await device.room(general);
      await until("the thread", () => room.getThread(first)?.findEventById(id));
    }
  });
  await step("a late device gets thread, edit and reaction bundled in /event", async () => {
    const raw = await alice1.client.fetchRoomEvent(general, first);
    const bundled = raw.unsigned?.["m.relations"] ?? {};
    ensure(bundled["m.thread"]?.count === 1, `m.thread: ${JSON.stringify(bundled["m.thread"])}`);
    ensure(bundled["m.replace"]?.content?.["m.new_content"]?.body === "hello robert", "no bundled m.replace");
  });
  await step("typing is seen", async () => {
    const member = (await bob2.room(general)).getMember(alice1.userId);
    await alice1.client.sendTyping(general, true, 20_000);
    await until("alice typing", () => member.typing);
    await alice1.client.sendTyping(general, false, 0);
    await until("alice not typing", () => !member.typing);
  });
  await step("unread counts rise and a read receipt clears them", async () => {
    const id = await alice1.text(general, `${bobName} did you read this?`);
    const event = await bob1.event(general, id);
    const room = await bob2.room(general);
    await until("an unread notification on bob's desk", () => room.getUnreadNotificationCount("total") > 0);
    await bob1.client.sendReadReceipt(event);
    for (const device of [alice1, alice2, bob2]) {
      const seen = await device.room(general);
      await until("bob's receipt", () => seen.hasUserReadEvent(bob1.userId, id));
    }
    await until("no unread notifications on bob's desk", () => room.getUnreadNotificationCount("total") === 0);
  });
  await step("a redaction reaches all devices", async () => {
    const id = await bob1.text(general, "said too much");
    await everyoneReads(all, general, id, "said too much");
    await bob1.client.redactEvent(general, id, undefined, { reason: "oops" });
    for (const device of all) {
      const event = await device.event(general, id);
      await until("the redaction", () => event.isRedacted());
    }
    const raw = await alice1.client.fetchRoomEvent(general, id);
    ensure(!("body" in raw.content), "the server still gives out the text");
  });
  await step("older messages are paged in order", async () => {
    for (let number = 0; number < 40; number += 1) await alice1.text(random, `number ${number}`);
    const late = await login(aliceName, "alice late");
    await late.client.startClient({ initialSyncLimit: 5, pollTimeout: 10_000 });
    await late.synced();
    const room = await late.room(random);
    const numbers = () => room.getLiveTimeline().getEvents()
      .map((event) => event.getContent().body).filter((body) => body?.startsWith("number "));
    ensure(numbers().length < 40, "the first sync already had everything");
    for (let page = 0; page < 10 && numbers().length < 40; page += 1) await late.client.scrollback(room, 15);
    late.stop();
    await late.client.logout();
    const expected = Array.from({ length: 40 }, (_, number) => `number ${number}`);
    ensure(numbers().join() === expected.join(), `got ${numbers().join()}`);
  });
}

async function shareImage({ alice1, bob1, bob2 }, { general }) {
  await step("an image arrives byte for byte, with a thumbnail", async () => {
    const image = await readFile(process.env.IMAGE);
    const { content_uri: uri } = await alice1.client.uploadContent(image, { name: "image.png", type: "image/png" });
    const id = await alice1.send(general, "m.room.message", { msgtype: "m.image", body: "image.png", url: uri, info: { mimetype: "image/png", size: image.length } });
    for (const device of [bob1, bob2]) {
      const event = await device.event(general, id);
      const bytes = await download(device, device.client.mxcUrlToHttp(event.getContent().url, undefined, undefined, undefined, false, true, true));
      ensure(image.equals(bytes), `${bytes.length} bytes came back for ${image.length}`);
      const small = await download(device, device.client.mxcUrlToHttp(event.getContent().url, 64, 64, "scale", false, true, true));
      ensure(small.length > 0 && !image.equals(small), "the thumbnail is empty or the original");
    }
    const open = await fetch(bob1.client.mxcUrlToHttp(uri, undefined, undefined, undefined, false, true, true));
    ensure(open.status === 401, `media without a token gives status ${open.status}`);
  });
}

async function download(device, url) {
  const response = await fetch(url, { headers: { authorization: `Bearer ${device.session.access_token}` } });
  ensure(response.ok, `${url} gives status ${response.status}`);
  return Buffer.from(await response.arrayBuffer());
}

async function lookAround({ alice1, alice2, bob1 }, { general }) {
  await step("a new display name reaches the other user", async () => {
    await bob1.client.setDisplayName("Bob of the Scripts");
    const room = await alice2.room(general);
    await until("the new name", () => room.getMember(bob1.userId)?.rawDisplayName === "Bob of the Scripts");
  });
  await step("the user directory finds bob by name", () =>
    until("bob among the results", async () => {
      const { results } = await alice1.client.searchUserDirectory({ term: "Scripts", limit: 10 });
      return results.some((user) => user.user_id === bob1.userId);
    }));
  await step("account data reaches the other device", async () => {
    await alice1.client.setAccountData("org.example.colour", { colour: "green" });
    await until("the account data", () => alice2.client.getAccountData("org.example.colour")?.getContent().colour === "green");
  });
}

/** Cross-signing, key backup, an encrypted room; gives what a fresh device needs. */
async function encrypt({ alice1, bob1, all }, rooms) {
  await step("alice and bob set up cross-signing", async () => {
    for (const device of [alice1, bob1]) {
      await device.client.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => withPassword(device, request) });
      ensure(await device.client.getCrypto().isCrossSigningReady(), `${device.userId} is not ready`);
    }
  });
  const recovery = await step("alice sets up secret storage and key backup", async () => {
    const crypto = alice1.client.getCrypto();
    const key = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => key, setupNewKeyBackup: true, setupNewSecretStorage: true });
    ensure(await crypto.getActiveSessionBackupVersion(), "no active backup");
    return key;
  });
  await must("create an encrypted room", async () => {
    const { room_id: secret } = await alice1.client.createRoom({
      name: "secret", preset: "private_chat", invite: [bob1.userId],
      initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await bob1.room(secret, "invite");
    await bob1.client.joinRoom(secret);
    for (const device of all) {
      await device.room(secret);
      await until("the room's encryption", () => device.client.getCrypto().isEncryptionEnabledInRoom(secret));
    }
    rooms.secret = secret;
  });
  const old = [];
  for (const device of all) {
    await step(`an encrypted message from ${device.userId} ${device.session.device_id} is read by the other three`, async () => {
      const body = `secret from ${device.session.device_id}`;
      const id = await device.text(rooms.secret, body);
      old.push([id, body]);
      const raw = await device.client.fetchRoomEvent(rooms.secret, id);
      ensure(raw.type === "m.room.encrypted", `it was sent as ${raw.type}`);
      await everyoneReads(all, rooms.secret, id, body);
    });
  }
  return { recovery, old };
}

async function verifyEveryone({ alice1, alice2, bob1 }, { secret }) {
  await step("alice verifies her second device by emoji", async () => {
    const crypto = alice2.client.getCrypto();
    ensure(await crypto.userHasCrossSigningKeys(alice2.userId, true), "the public cross-signing keys are unknown");
    await runSas(alice1, () => crypto.requestOwnUserVerification());
    await until("the owner's signature on the device", async () =>
      (await crypto.getDeviceVerificationStatus(alice2.userId, alice2.session.device_id))?.signedByOwner);
    await until("the private cross-signing keys", async () => {
      const { privateKeysCachedLocally: keys } = await crypto.getCrossSigningStatus();
      return keys.masterKey && keys.selfSigningKey && keys.userSigningKey;
    });
  });
  await step("alice and bob verify each other by emoji", async () => {
    const verified = async (device, other) =>
      (await device.client.getCrypto().getUserVerificationStatus(other.userId)).isCrossSigningVerified();
    await runSas(bob1, () => alice1.client.getCrypto().requestVerificationDM(bob1.userId, secret));
    await until("bob to be verified at alice's", () => verified(alice1, bob1));
    await until("alice to be verified at bob's", () => verified(bob1, alice1));
  });
}

/** Plays both sides of the emoji comparison for a request made by `ask`. */
async function runSas(answering, ask) {
  let received;
  answering.client.once(CryptoEvent.VerificationRequestReceived, (request) => { received = request; });
  const request = await ask();
  await until("the verification request to arrive", () => received);
  await received.accept();
  await until("the request to be ready", () => request.phase === VerificationPhase.Ready);
  const ours = await request.startVerification("m.sas.v1");
  const theirs = await until("the SAS flow to arrive", () => received.verifier);
  const shown = [ours, theirs].map((side) => new Promise((resolve) => { side.once(VerifierEvent.ShowSas, resolve); }));
  const done = [ours, theirs].map((side) => side.verify());
  const [one, other] = await Promise.race([Promise.all(shown), Promise.all(done)]);
  ensure(one.sas.decimal.join() === other.sas.decimal.join(), "the two sides show different strings");
  await one.confirm();
  await other.confirm();
  await Promise.all(done);
}

async function withPassword(device, request) {
  try {
    await request(null);
  } catch (error) {
    if (error.httpStatus !== 401 || !error.data?.flows) throw error;
    await request({
      type: "m.login.password", session: error.data.session, password: PASSWORD,
      identifier: { type: "m.id.user", user: device.userId },
    });
  }
}

async function restart({ alice1, bob2, all }, rooms) {
  if (!process.env.RESTART) {
    console.log("RESTART is not set: the server is not restarted");
    return;
  }
  const done = await step("restart the server", () => promisify(exec)(process.env.RESTART));
  if (!done) return;
  await step("access tokens outlive the restart", async () => {
    for (const device of all) {
      const who = await device.client.whoami();
      ensure(who.user_id === device.userId && who.device_id === device.session.device_id, JSON.stringify(who));
    }
  });
  await step("every sync loop goes on after the restart", async () => {
    for (const device of all) device.client.retryImmediately();
    const one = await alice1.text(rooms.general, "after the restart");
    await everyoneReads(all, rooms.general, one, "after the restart");
    const two = await bob2.text(rooms.general, "welcome back");
    await everyoneReads(all, rooms.general, two, "welcome back");
  });
  await step("encrypted chat goes on after the restart", async () => {
    const id = await bob2.text(rooms.secret, "still secret");
    await everyoneReads(all, rooms.secret, id, "still secret");
  });
  await step("a client that starts from a saved token syncs", async () => {
    const again = new Device(alice1.session);
    await again.client.startClient({ initialSyncLimit: 5, pollTimeout: 10_000 });
    await again.synced();
    await again.room(rooms.general);
    again.stop();
  });
}

/** A device that logs in later reads old messages with the recovery key alone. */
async function recover(rooms, { recovery, old }) {
  if (!recovery) return;
  await step("a third device restores identity and old messages by the recovery key", async () => {
    const fresh = await login(aliceName, "alice new phone");
    fresh.secretStorageKey = recovery.privateKey;
    await fresh.start();
    const crypto = fresh.client.getCrypto();
    // The private keys can only be imported once the public ones are known.
    ensure(await crypto.userHasCrossSigningKeys(fresh.userId, true), "the user's public cross-signing keys are unknown");
    await crypto.bootstrapCrossSigning({});
    ensure(await crypto.isCrossSigningReady(), "cross-signing is not ready");
    await until("the owner's signature on the device", async () =>
      (await crypto.getDeviceVerificationStatus(fresh.userId, fresh.session.device_id))?.signedByOwner);
    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    ensure(await crypto.checkKeyBackupAndEnable(), "the backup is not usable");
    const restored = await until("keys in the backup", async () => {
      const result = await crypto.restoreKeyBackup();
      return result.imported >= old.length ? result : undefined;
    });
    ensure(restored.total >= old.length, `${restored.total} keys in the backup`);
    const room = await fresh.room(rooms.secret);
    await fresh.client.scrollback(room, 50);
    for (const [id, body] of old) await everyoneReads([fresh], rooms.secret, id, body);
    fresh.stop();
  });
}

async function leave({ alice1, alice2, bob1, bob2 }, { random }) {
  await step("bob leaves a channel and everybody knows", async () => {
    await bob1.client.leave(random);
    for (const device of [bob1, bob2]) await device.room(random, "leave");
    for (const device of [alice1, alice2]) {
      const room = await device.room(random);
      await until("bob's leave", () => room.getMember(bob1.userId)?.membership === "leave");
    }
  });
  await step("bob cannot send after leaving", async () => {
    const error = await bob2.client.http.authedRequest("PUT", `/rooms/${encodeURIComponent(random)}/send/m.room.message/late`, {}, { msgtype: "m.text", body: "here?" })
      .then(() => undefined, (error) => error);
    ensure(error?.errcode === "M_FORBIDDEN", `got ${error?.errcode ?? "an event id"}`);
  });
  await step("logging out ends the token", async () => {
    await bob2.client.logout(true);
    const response = await fetch(`${process.env.HOMESERVER}/_matrix/client/v3/account/whoami`, { headers: { authorization: `Bearer ${bob2.session.access_token}` } });
    ensure(response.status === 401, `whoami gives status ${response.status}`);
  });
}

async function scenario() {
  const world = await logIn();
  const rooms = await createRooms(world);
  await chat(world, rooms);
  await shareImage(world, rooms);
  await lookAround(world, rooms);
  const secrets = await encrypt(world, rooms);
  await verifyEveryone(world, rooms);
  await restart(world, rooms);
  await recover(rooms, secrets);
  await leave(world, rooms);
}

setTimeout(() => {
  fail("scenario", `not finished after ${SCENARIO_LIMIT_MS / 1000} s`);
  finish();
}, SCENARIO_LIMIT_MS);
process.on("unhandledRejection", (error) => { if (process.env.VERBOSE) console.log("unhandled:", error); });
if (!process.env.HOMESERVER) {
  fail("environment", "HOMESERVER is not set");
  finish();
}
scenario()
  .catch((error) => {
    if (error instanceof Abort) console.log("the steps after this one need it and were not run");
    else fail("scenario", error.stack);
  })
  .finally(finish);
