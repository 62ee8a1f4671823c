// Calls between two people as Element Web has made them since before Element Call: `m.call.invite`, no media server.

import { createNewMatrixCall } from "matrix-js-sdk/lib/webrtc/call.js";

/** Leaves the server's relay only: no direct way, and only addresses of it that `kind` (udp, tcp, tls) names. */
async function throughRelay(client, kind) {
  const fits = {
    udp: (uri) => uri.startsWith("turn:") && !uri.includes("transport=tcp"),
    tcp: (uri) => uri.startsWith("turn:") && uri.includes("transport=tcp"),
    tls: (uri) => uri.startsWith("turns:"),
  }[kind];
  const { uris, username, password } = await client.turnServer();
  const urls = uris.filter(fits);
  if (urls.length === 0) throw new Error(`no address of the relay over ${kind} in ${uris}`);
  client.setForceTURN(true);
  client.turnServers = [{ urls, username, credential: password }];
  client.turnServersExpiry = Date.now() + 3_600_000; // so that the SDK does not ask again
}

export class Telephone {
  constructor(client, note) {
    Object.assign(this, { client, note });
    client.on("Call.incoming", (call) => {
      this.take(call);
      call.answer().catch((error) => note("answerFailed", { error: String(error) }));
    });
  }

  prepare(kind) { return throughRelay(this.client, kind); }

  take(call) {
    this.call = call;
    call.on("state", (state) => this.note("telephone", { state }));
    call.on("error", (error) => this.note("telephoneError", { error: String(error) }));
    call.on("feeds_changed", (feeds) => {
      for (const feed of feeds.filter((one) => !one.isLocal())) this.show(feed.stream);
    });
  }

  show(stream) {
    if (document.querySelector("video")?.srcObject === stream) return;
    const video = Object.assign(document.createElement("video"), { srcObject: stream, autoplay: true });
    document.body.append(video);
  }

  async ring(roomId) {
    this.take(createNewMatrixCall(this.client, roomId));
    await this.call.placeVideoCall();
  }

  state() { return this.call?.state; }

  hangUp() { this.call.hangup("user_hangup", false); }

  /** The pair of addresses over which media goes: types and, of a relayed own side, the way to the relay. */
  async way() {
    const report = await this.call.peerConn.getStats();
    const transport = [...report.values()].find((one) => one.type === "transport");
    const pair = report.get(transport?.selectedCandidatePairId);
    const local = report.get(pair?.localCandidateId);
    return { type: local?.candidateType, over: local?.relayProtocol, remote: report.get(pair?.remoteCandidateId)?.candidateType };
  }
}
