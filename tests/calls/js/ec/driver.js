// What Element Call may do through its host: each request of the widget becomes a call of the JavaScript SDK.

import { EventType } from "matrix-js-sdk";
import { OpenIDRequestState, WidgetDriver } from "matrix-widget-api";

const RTC_MEMBER = "org.matrix.msc4143.rtc.member";

export class CallDriver extends WidgetDriver {
  /** `note(what, details)` is told what the widget did that a scenario asks for. */
  constructor(client, roomId, note) {
    super();
    Object.assign(this, { client, roomId, note });
  }

  get room() { return this.client.getRoom(this.roomId); }

  async validateCapabilities(requested) {
    this.note("capabilities", { names: [...requested] });
    return requested;
  }

  async sendEvent(type, content, stateKey = null) {
    if (type === EventType.RoomRedaction) {
      const { event_id: eventId } = await this.client.redactEvent(this.roomId, content.redacts);
      return { roomId: this.roomId, eventId };
    }
    const { event_id: eventId } = stateKey === null
      ? await this.client.sendEvent(this.roomId, type, content)
      : await this.client.sendStateEvent(this.roomId, type, content, stateKey);
    this.note("sent", { type, stateKey, eventId, empty: Object.keys(content).length === 0 });
    return { roomId: this.roomId, eventId };
  }

  async sendStickyEvent(duration, type, content) {
    const { event_id: eventId } = await this.client._unstable_sendStickyEvent(this.roomId, duration, null, type, content);
    this.note("sent", { type, sticky: duration, eventId });
    return { roomId: this.roomId, eventId };
  }

  async sendDelayedEvent(delay, type, content, stateKey = null) {
    const { delay_id: delayId } = stateKey === null
      ? await this.client._unstable_sendDelayedEvent(this.roomId, { delay }, null, type, content)
      : await this.client._unstable_sendDelayedStateEvent(this.roomId, { delay }, type, content, stateKey);
    this.note("scheduled", { type, stateKey, delay, delayId });
    return { roomId: this.roomId, delayId };
  }

  async sendDelayedStickyEvent(delay, duration, type, content) {
    const { delay_id: delayId } =
      await this.client._unstable_sendStickyDelayedEvent(this.roomId, duration, { delay }, null, type, content);
    this.note("scheduled", { type, sticky: duration, delay, delayId });
    return { roomId: this.roomId, delayId };
  }

  async cancelScheduledDelayedEvent(delayId) { await this.client._unstable_cancelScheduledDelayedEvent(delayId); }

  async restartScheduledDelayedEvent(delayId) { await this.client._unstable_restartScheduledDelayedEvent(delayId); }

  async sendScheduledDelayedEvent(delayId) {
    await this.client._unstable_sendScheduledDelayedEvent(delayId);
    this.note("leftByDelayedEvent", { delayId });
  }

  async sendToDevice(type, encrypted, contents) {
    for (const [userId, devices] of Object.entries(contents)) {
      for (const [deviceId, content] of Object.entries(devices)) {
        this.note("toDevice", { type, encrypted, userId, deviceId });
        if (encrypted) await this.client.encryptAndSendToDevice(type, [{ userId, deviceId }], content);
        else await this.client.queueToDevice({ eventType: type, batch: [{ userId, deviceId, payload: content }] });
      }
    }
  }

  async readRoomTimeline(_roomId, type, messageType, stateKey, limit) {
    const events = this.room.getLiveTimeline().getEvents().filter((event) =>
      event.getType() === type && (stateKey === undefined || event.getStateKey() === stateKey)
      && (messageType === undefined || event.getContent().msgtype === messageType));
    return events.reverse().slice(0, limit || undefined).map((event) => event.getEffectiveEvent());
  }

  async readRoomState(_roomId, type, stateKey) {
    const state = this.room.currentState;
    const events = stateKey === undefined ? state.getStateEvents(type) : [state.getStateEvents(type, stateKey)];
    return events.filter(Boolean).map((event) => event.getEffectiveEvent());
  }

  async readStickyEvents() {
    return [...this.room._unstable_getStickyEvents()].map((event) => event.getEffectiveEvent());
  }

  async readRoomAccountData() { return []; }

  async readEventRelations(eventId, _roomId, relationType, eventType, from, to, limit, dir) {
    const { events, nextBatch, prevBatch } =
      await this.client.relations(this.roomId, eventId, relationType ?? null, eventType ?? null, { from, to, limit, dir });
    return { chunk: events.map((event) => event.getEffectiveEvent()), nextBatch, prevBatch };
  }

  askOpenID(observer) {
    this.client.getOpenIdToken().then(
      (token) => observer.update({ state: OpenIDRequestState.Allowed, token }),
      () => observer.update({ state: OpenIDRequestState.Blocked }),
    );
  }

  async getRtcTransports() {
    const transports = await this.client._unstable_getRTCTransports();
    this.note("transports", { transports });
    return { rtc_transports: transports };
  }

  getRtcLivekitToken(request) { return this.client._unstable_getLivekitToken(request); }

  delegateRtcLivekitDelayedLeave(request) { return this.client._unstable_delegateDelayedLeave(request); }

  async *getTurnServers() {
    const { uris, username, password } = await this.client.turnServer();
    yield { uris, username, password };
  }

  async downloadFile(uri) {
    const url = this.client.mxcUrlToHttp(uri, undefined, undefined, undefined, true, true, true);
    const answer = await fetch(url, { headers: { Authorization: `Bearer ${this.client.getAccessToken()}` } });
    return { file: await answer.blob() };
  }

  getKnownRooms() { return [this.roomId]; }

  processError(error) {
    if (!error?.httpStatus) return undefined;
    return {
      matrix_api_error: {
        http_status: error.httpStatus, http_headers: {}, url: error.url ?? "",
        response: { errcode: error.errcode ?? "M_UNKNOWN", error: error.message, ...error.data },
      },
    };
  }
}

/** Who is in the call by the room's events: state events that are not empty, and sticky events with a membership. */
export function memberships(room) {
  const found = room.currentState.getStateEvents("org.matrix.msc3401.call.member")
    .filter((event) => Object.keys(event.getContent()).length > 0)
    .map((event) => event.getSender());
  for (const event of room._unstable_getStickyEvents()) {
    if (event.getType() === RTC_MEMBER && event.getContent().member) found.push(event.getSender());
  }
  return found.sort();
}
