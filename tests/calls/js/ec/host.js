// A small Matrix client in a page: it syncs, and opens Element Call as a widget in the call's room.

import { ClientEvent, MatrixEventEvent, RoomStateEvent, createClient } from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { RoomStickyEventsEvent } from "matrix-js-sdk/lib/models/room-sticky-events.js";
import { ClientWidgetApi, Widget } from "matrix-widget-api";
import { CallDriver, memberships } from "./driver.js";
import { Telephone } from "./telephone.js";

const WIDGET = "call";
const notes = [];
const note = (what, details = {}) => notes.push({ what, ...details, at: Date.now() });
let client;
let api;
let telephone;

logger.setLevel?.("warn");

/** Starts the client with its own encryption; done when the room is there. */
async function logIn({ homeserver, session, roomId }) {
  client = createClient({
    baseUrl: homeserver, userId: session.user_id, deviceId: session.device_id, accessToken: session.access_token,
  });
  await client.initRustCrypto({ useIndexedDB: false });
  client.on(ClientEvent.Sync, (state) => note("sync", { state }));
  client.on(ClientEvent.ReceivedToDeviceMessage, ({ message, encryptionInfo }) => {
    note("toDeviceReceived", { type: message.type, sender: message.sender, encrypted: !!encryptionInfo });
    api?.feedToDevice(message, !!encryptionInfo);
  });
  telephone = new Telephone(client, note);
  await client.startClient({ initialSyncLimit: 30, lazyLoadMembers: true, pollTimeout: 20_000 });
  await new Promise((resolve) => {
    const look = () => client.getRoom(roomId)?.getMyMembership() === "join" && resolve();
    client.on(ClientEvent.Sync, look);
    look();
  });
}

/** Feeds the room's events to the widget as they come. */
function feed(roomId) {
  const pass = (event) => {
    if (event.getRoomId() !== roomId) return;
    if (event.isBeingDecrypted() || event.getType() === "m.room.encrypted") return; // comes again when decrypted
    api.feedEvent(event.getEffectiveEvent()).catch((error) => note("feedFailed", { error: String(error) }));
  };
  client.on(ClientEvent.Event, pass);
  client.on(MatrixEventEvent.Decrypted, pass);
  client.on(RoomStateEvent.Events, (event) => {
    if (event.getRoomId() === roomId) api.feedStateUpdate(event.getEffectiveEvent()).catch(() => {});
  });
  client.getRoom(roomId).on(RoomStickyEventsEvent.Update, (added, updated) => {
    for (const event of [...added, ...updated.map((one) => one.current)]) pass(event);
  });
}

/** Opens Element Call and joins the call; done when it says that it has joined. */
async function join({ homeserver, roomId, folder, parameters = {} }) {
  const query = new URLSearchParams({
    widgetId: WIDGET, parentUrl: location.origin, roomId,
    userId: client.getUserId(), deviceId: client.getDeviceId(), baseUrl: homeserver,
    intent: "join_existing", skipLobby: "true", perParticipantE2EE: "true", confineToRoom: "true",
    header: "none", lang: "en", theme: "dark", ...parameters,
  });
  const url = `${location.origin}/${folder}/index.html#?${query}`;
  const widget = new Widget({ id: WIDGET, creatorUserId: client.getUserId(), type: "m.call", url, waitForIframeLoad: false });
  const frame = Object.assign(document.createElement("iframe"), { src: url, allow: "camera; microphone; display-capture; autoplay; fullscreen" });
  document.body.append(frame); // the widget API wants the frame's window
  api = new ClientWidgetApi(widget, frame, new CallDriver(client, roomId, note));
  api.setViewedRoomId(roomId);
  const joined = new Promise((resolve) => answer("io.element.join", resolve));
  answer("io.element.device_mute");
  answer("im.vector.hangup");
  answer("io.element.close", () => frame.remove());
  answer("set_always_on_screen");
  api.once("ready", () => note("ready"));
  feed(roomId);
  await joined;
}

/** Acknowledges an action of the widget and notes it. */
function answer(action, then) {
  api.on(`action:${action}`, (event) => {
    event.preventDefault();
    api.transport.reply(event.detail, {});
    note(action, { data: event.detail.data });
    then?.();
  });
}

window.host = {
  logIn,
  join,
  /** Asks Element Call to leave, as the host's own button would. */
  hangUp: () => api.transport.send("im.vector.hangup", {}),
  mute: (audio, video) => api.transport.send("io.element.device_mute", { audio_enabled: audio, video_enabled: video }),
  memberships: (roomId) => memberships(client.getRoom(roomId)),
  notes: () => notes,
  telephone: (method, ...parameters) => telephone[method](...parameters),
};
window.hostReady = true;
