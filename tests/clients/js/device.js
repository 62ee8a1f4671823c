// One logged-in device of the JavaScript SDK with in-memory stores and the Rust crypto.

import { createClient } from "matrix-js-sdk";
import { logger as sdkLogger } from "matrix-js-sdk/lib/logger.js";
import { ensure, until } from "./report.js";

export const PASSWORD = "correct horse battery staple";
const homeserver = process.env.HOMESERVER;

const silent = {
  trace() {}, debug() {}, info() {}, warn() {}, error() {}, setLevel() {},
  getChild() { return silent; },
};
if (!process.env.VERBOSE) {
  sdkLogger.setLevel?.("silent");
  for (const level of ["trace", "debug", "info", "warn", "error"]) console[level] = () => {};
}

/** Registers a user, passing the dummy stage when the server asks for it. */
export async function register(username, deviceName) {
  const client = createClient({ baseUrl: homeserver, logger: silent });
  const body = { username, password: PASSWORD, initial_device_display_name: deviceName };
  let session;
  try {
    session = await client.registerRequest(body);
  } catch (error) {
    if (error.httpStatus !== 401 || !error.data?.flows) throw error;
    session = await client.registerRequest({ ...body, auth: { type: "m.login.dummy", session: error.data.session } });
  }
  return new Device(session);
}

/** Logs in: a new device of an existing user. */
export async function login(username, deviceName, password = PASSWORD) {
  const client = createClient({ baseUrl: homeserver, logger: silent });
  const session = await client.loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: username },
    password,
    initial_device_display_name: deviceName,
  });
  return new Device(session);
}

export class Device {
  /** @param session the answer of /register or /login */
  constructor(session) {
    this.session = session;
    this.userId = session.user_id;
    /** The private key of the secret storage, once the user has given it. */
    this.secretStorageKey = undefined;
    this.client = createClient({
      baseUrl: homeserver,
      userId: session.user_id,
      accessToken: session.access_token,
      deviceId: session.device_id,
      logger: silent,
      cryptoCallbacks: {
        getSecretStorageKey: async ({ keys }) =>
          this.secretStorageKey ? [Object.keys(keys)[0], this.secretStorageKey] : null,
        cacheSecretStorageKey: (_id, _info, key) => { this.secretStorageKey = key; },
      },
    });
  }

  /** Starts the crypto and the sync loop; done when the first sync is. */
  async start() {
    await this.client.initRustCrypto({ useIndexedDB: false });
    await this.client.startClient({
      initialSyncLimit: 30, lazyLoadMembers: true, threadSupport: true, pollTimeout: 10_000,
    });
    await this.synced();
  }

  async synced() {
    await until(`a sync of ${this.userId}`, () => ["PREPARED", "SYNCING"].includes(this.client.getSyncState()));
  }

  /** Waits for the room with the given membership. */
  room(roomId, membership = "join") {
    return until(`room ${roomId} as ${membership}`, () => {
      const room = this.client.getRoom(roomId);
      return room?.getMyMembership() === membership ? room : undefined;
    });
  }

  /** Waits for an event that is there and decrypted. */
  async event(roomId, eventId) {
    const room = await this.room(roomId);
    let last;
    const event = await until(`event ${eventId}`, async () => {
      last = room.findEventById(eventId);
      if (!last) return undefined;
      await this.client.decryptEventIfNeeded(last);
      return last.isBeingDecrypted() || last.isDecryptionFailure() ? undefined : last;
    }).catch((error) => {
      throw new Error(`${error.message} at ${this.userId}: ${last ? `it cannot be decrypted: ${last.decryptionFailureReason}` : "it never came"}`);
    });
    return event;
  }

  async send(roomId, type, content) {
    await this.room(roomId);
    const sent = await this.client.sendEvent(roomId, type, content);
    ensure(sent.event_id?.startsWith("$"), "the answer has no event id");
    return sent.event_id;
  }

  text(roomId, body) {
    return this.send(roomId, "m.room.message", { msgtype: "m.text", body });
  }

  stop() {
    this.client.stopClient();
  }
}

/** Waits until each device shows the event with this text. */
export async function everyoneReads(devices, roomId, eventId, body) {
  for (const device of devices) {
    const event = await device.event(roomId, eventId);
    ensure(event.getContent().body === body, `${device.userId} reads ${JSON.stringify(event.getContent())}`);
  }
}
