// What a moderation bot does, with matrix-bot-sdk: the admin client of the library, and a policy list that bans, redacts
// and closes. Draupnir does these things with a fork of the library; it is not on npm.
"use strict";

const { execFile } = require("node:child_process");
const Module = require("node:module");
const { promisify } = require("node:util");

// Nothing here is encrypted, and the library that could needs a download from elsewhere than npm.
const load = Module._load;
const anything = new Proxy(function () {}, { get: (_, name) => (name === Symbol.toPrimitive ? () => "" : anything) });
Module._load = (name, ...more) => (name.startsWith("@matrix-org/matrix-sdk-crypto") ? anything : load(name, ...more));
const { LogService, LogLevel, MatrixClient, MemoryStorageProvider } = require("matrix-bot-sdk");

LogService.setLevel(LogLevel.ERROR);
LogService.setLogger({ error() {}, warn() {}, info() {}, debug() {}, trace() {} });

const URL_OF = process.env.HOMESERVER;
const SERVER = URL_OF.replace("http://", "");
const OTHER = "127.0.0.1:1"; // a server that is not there
const PASSWORD = "a long word of the test";
const LIMIT = 60_000; // how long something may take to come, in milliseconds
const run = promisify(execFile);
let passed = 0, failed = 0;

function check(what, holds, seen) {
  if (holds) return void passed++;
  failed++;
  console.log(`FAILED: ${what}` + (seen === undefined ? "" : `: ${JSON.stringify(seen)?.slice(0, 500)}`));
}

async function waitFor(what, found) {
  const deadline = Date.now() + LIMIT;
  while (Date.now() < deadline) {
    const value = await found();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} did not come`);
}

/** The error of a call that has to be refused. */
async function refusal(what, promise) {
  try {
    const answer = await promise;
    check(`${what} is refused`, false, answer);
    return {};
  } catch (error) {
    passed++;
    return error;
  }
}

async function register(name) {
  const content = { username: name, password: PASSWORD, auth: { type: "m.login.dummy" } };
  const body = JSON.stringify(content);
  const response = await fetch(`${URL_OF}/_matrix/client/v3/register`, { method: "POST", body });
  const made = await response.json();
  const client = new MatrixClient(URL_OF, made.access_token, new MemoryStorageProvider());
  client.id = made.user_id;
  return client;
}

async function operate(...words) {
  const command = ["admin", "--config", process.env.CONDUIT_CONFIG, ...words];
  return (await run(process.env.CONDUIT, command, { timeout: LIMIT })).stdout;
}

const publicRoom = (client, more) => client.createRoom({ preset: "public_chat", ...more });
const room = (id) => encodeURIComponent(id);

// The user of the server itself is counted among the users.
async function checkAdminClient(bot, alice) {
  const admin = bot.adminApis.synapse;
  check("isSelfAdmin", await admin.isSelfAdmin());
  check("isAdmin of a member", (await admin.isAdmin(alice.id)) === false);
  const made = await admin.upsertUser(`@carol:${SERVER}`, { password: PASSWORD, displayname: "Carol" });
  check("upsertUser", made.displayname === "Carol", made);
  check("getUser", (await admin.getUser(made.name)).name === made.name);
  const listed = await admin.listUsers(undefined, 2);
  check("listUsers", listed.users.length === 2 && listed.total === 4, listed);
  const names = [];
  for await (const user of admin.listAllUsers({ limit: 2 })) names.push(user.name);
  check("listAllUsers", names.length === 4, names);
  const lobby = await publicRoom(alice, { name: "Lobby" });
  const rooms = await admin.listRooms("lobby");
  check("listRooms", rooms.rooms.length === 1 && rooms.rooms[0].room_id === lobby, rooms);
  const state = await admin.getRoomState(lobby);
  check("getRoomState", state.some((event) => event.type === "m.room.create"), state);
  const token = await admin.createRegistrationToken({ uses_allowed: 2 });
  check("createRegistrationToken", token.uses_allowed === 2, token);
  check("getRegistrationToken", (await admin.getRegistrationToken(token.token)).pending === 0);
  const updated = await admin.updateRegistrationToken(token.token, { uses_allowed: 3 });
  check("updateRegistrationToken", updated.uses_allowed === 3, updated);
  check("listRegistrationTokens", (await admin.listRegistrationTokens(true)).length === 1);
  await admin.deleteRegistrationToken(token.token);
  check("none is left", (await admin.listRegistrationTokens(true)).length === 0);
  check("an unknown token", (await admin.getRegistrationToken("unknown")) === null);
  await bot.joinRoom(lobby);
  await admin.makeRoomAdmin(lobby, bot.id);
  check("makeRoomAdmin", (await bot.getRoomStateEvent(lobby, "m.room.power_levels", "")).users[bot.id] === 100);
  await admin.deleteRoom(lobby);
  await waitFor("the end of the room", async () => {
    const tasks = await admin.getDeleteRoomState(lobby);
    return tasks.every((task) => task.status === "complete");
  });
  check("who is in it is removed", !(await alice.getJoinedRooms()).includes(lobby));
  await refusal("a member's use of the admin client", alice.adminApis.synapse.listUsers());
}

/** A glob of a policy rule as a test for user ids. */
function matches(glob, entity) {
  const pattern = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${pattern}$`).test(entity);
}

/** The part of a moderation bot that acts on a list: bans whom it names in every protected room, and redacts them. */
class Moderator {
  constructor(client, list, protectedRooms) {
    Object.assign(this, { client, list, protectedRooms });
  }

  async rules(type) {
    const state = await this.client.getRoomState(this.list);
    return state.filter((event) => event.type === type && event.content.entity).map((event) => event.content);
  }

  async apply() {
    const rules = (await this.rules("m.policy.rule.user")).filter((rule) => rule.recommendation === "m.ban");
    for (const protectedRoom of this.protectedRooms) {
      for (const member of await this.client.getJoinedRoomMembers(protectedRoom)) {
        const rule = rules.find((each) => matches(each.entity, member));
        if (rule) await this.client.banUser(member, protectedRoom, rule.reason);
      }
      const denied = (await this.rules("m.policy.rule.server")).map((rule) => rule.entity);
      const acl = { allow: ["*"], deny: denied, allow_ip_literals: true };
      if (denied.length > 0) await this.client.sendStateEvent(protectedRoom, "m.room.server_acl", "", acl);
    }
  }

  async redact(user, protectedRoom) {
    const path = `/_matrix/client/v3/rooms/${room(protectedRoom)}/messages`;
    const page = await this.client.doRequest("GET", path, { dir: "b", limit: 100 });
    const theirs = page.chunk.filter((event) => event.sender === user && event.type === "m.room.message");
    for (const event of theirs) await this.client.redactEvent(protectedRoom, event.event_id, "spam");
    return theirs.map((event) => event.event_id);
  }
}

async function checkModeration(bot, alice, spammers) {
  const admin = (method, path, body) => bot.doRequest(method, `/_synapse/admin${path}`, undefined, body);
  const guarded = [await publicRoom(alice, { name: "Town" }), await publicRoom(alice, { name: "Park" })];
  for (const each of guarded) {
    await bot.joinRoom(each);
    await bot.adminApis.synapse.makeRoomAdmin(each, bot.id);
    for (const spammer of spammers) await spammer.joinRoom(each);
  }
  const [first, second] = spammers;
  const texts = [];
  for (const each of guarded) texts.push([each, await first.sendText(each, "buy this")]);

  // Reports, as a bot polls them.
  await alice.doRequest("POST", `/_matrix/client/v3/rooms/${room(guarded[0])}/report/${room(texts[0][1])}`, null, {
    reason: "spam", score: -50 });
  const reports = await admin("GET", "/v1/event_reports?dir=b");
  check("the report is listed", reports.total === 1 && reports.event_reports[0].event_id === texts[0][1], reports);
  const report = await admin("GET", `/v1/event_reports/${reports.event_reports[0].id}`);
  check("with the event", report.event_json.content.body === "buy this" && report.sender === first.id, report);
  const context = await admin("GET", `/v1/rooms/${room(guarded[0])}/context/${room(texts[0][1])}`);
  check("and what is around it", context.event.event_id === texts[0][1], context);

  // A list, whose glob names both.
  const list = await publicRoom(bot, { name: "List", room_alias_name: "list" });
  const rule = { entity: `@spam*:${SERVER}`, recommendation: "m.ban", reason: "spam" };
  await bot.sendStateEvent(list, "m.policy.rule.user", "rule:spam", rule);
  await bot.sendStateEvent(list, "m.policy.rule.server", "rule:evil", { ...rule, entity: OTHER });
  const moderator = new Moderator(bot, list, guarded);
  await moderator.apply();
  for (const each of guarded) {
    for (const spammer of spammers) {
      const member = await bot.getRoomStateEvent(each, "m.room.member", spammer.id);
      check("banned in a protected room", member.membership === "ban" && member.reason === "spam", member);
      const error = await refusal("a join of the banned", spammer.joinRoom(each));
      check("with the right error", error.errcode === "M_FORBIDDEN", error.errcode);
    }
    const acl = await bot.getRoomStateEvent(each, "m.room.server_acl", "");
    check("the server is in the list of denied ones", acl.deny.includes(OTHER), acl);
    check("alice stays", (await bot.getJoinedRoomMembers(each)).includes(alice.id));
  }

  // Messages: one room by the bot, all others by the server.
  check("the bot finds the message", (await moderator.redact(first.id, guarded[0])).includes(texts[0][1]));
  const body = { rooms: [], reason: "spam" };
  const { redact_id: redaction } = await admin("POST", `/v1/user/${room(first.id)}/redact`, body);
  await waitFor("the end of the redaction", async () => {
    const { status } = await admin("GET", `/v1/user/redact_status/${redaction}`);
    return status === "complete";
  });
  for (const [each, event] of texts) {
    const seen = await alice.doRequest("GET", `/_matrix/client/v3/rooms/${room(each)}/event/${room(event)}`);
    check("the text is gone", Object.keys(seen.content).length === 0, seen);
  }

  // A user who is suspended says nothing, anywhere.
  const den = await publicRoom(second, { name: "Den" });
  await admin("PUT", `/v1/suspend/${room(second.id)}`, { suspend: true });
  const error = await refusal("a message of the suspended", second.sendText(den, "hello"));
  check("with M_USER_SUSPENDED", error.errcode === "M_USER_SUSPENDED", error.errcode);
  await admin("PUT", `/v1/suspend/${room(second.id)}`, { suspend: false });
  check("and says it afterwards", await second.sendText(den, "hello"));

  // Shut down, so that nobody comes back.
  const { delete_id: closing } = await admin("DELETE", `/v2/rooms/${room(den)}`, {
    block: true, purge: true, new_room_user_id: bot.id, room_name: "Closed", message: "Spam" });
  await waitFor("the end of the room", async () =>
    (await admin("GET", `/v2/rooms/delete_status/${closing}`)).status === "complete");
  check("the room is blocked", (await admin("GET", `/v1/rooms/${room(den)}/block`)).block === true);
  await refusal("a join of the blocked room", alice.joinRoom(den));
  return list;
}

/** The server itself follows the list: what it refuses, and whom it suspends. */
async function checkFollowing(bot, alice, list) {
  const spammer = await register("spam3");
  const before = await publicRoom(spammer, { name: "Before" });
  await spammer.inviteUser(alice.id, before);
  check("an invite before the list is followed", true);
  const said = await operate("policy", "follow", `#list:${SERVER}`);
  check("the list is followed", said.includes(list), said);
  const named = await operate("policy", "test", spammer.id);
  check("the rule names the user", named.includes("@spam*"), named);

  // Users of other servers are refused.
  const hall = await publicRoom(alice, { name: "Hall" });
  let error = await refusal("an invite of a banned user", alice.inviteUser(`@anyone:${OTHER}`, hall));
  check("with M_FORBIDDEN", error.errcode === "M_FORBIDDEN", error.errcode);
  check("and the list as the reason", error.body?.error?.includes("policy list"), error.body);

  // A user of this server is suspended when a rule without wildcards names them.
  await spammer.inviteUser(alice.id, await publicRoom(spammer, { name: "Between" }));
  check("a wildcard suspends nobody here", true);
  const after = await publicRoom(spammer, { name: "After" });
  const rule = { entity: spammer.id, recommendation: "m.ban", reason: "spam" };
  await bot.sendStateEvent(list, "m.policy.rule.user", "rule:spam3", rule);
  await waitFor("the suspension", async () => (await bot.adminApis.synapse.getUser(spammer.id)).suspended);
  error = await refusal("an invite by a banned user", spammer.inviteUser(alice.id, after));
  check("with M_USER_SUSPENDED", error.errcode === "M_USER_SUSPENDED", error.errcode);

  await operate("policy", "unfollow", list);
  error = await refusal("an invite to a server that is not there", alice.inviteUser(`@anyone:${OTHER}`, hall));
  check("but not because of the list", !error.body?.error?.includes("policy list"), error.body);
}

async function main() {
  const bot = await register("admin"), alice = await register("alice");
  await register("bob");
  await checkAdminClient(bot, alice);
  const spammers = [await register("spam1"), await register("spam2")];
  const list = await checkModeration(bot, alice, spammers);
  await checkFollowing(bot, alice, list);
}

main()
  .catch((error) => check("a step", false, error.body ?? error.stderr ?? error.message ?? String(error)))
  .finally(() => {
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed ? 1 : 0);
  });
