// Participants of calls by livekit-client, as the driver (../person.js) steers them. One page can hold several.

"use strict";
const { ExternalE2EEKeyProvider, Room, RoomEvent, Track, VideoPreset, VideoQuality } = LivekitClient;

/** Small pictures: the machine encodes and decodes all sides of the call in software. */
const CAMERA = { width: 640, height: 360, frameRate: 15 };
/** The browser's own processing may take the beeps for noise, or for an echo of the others' beeps. */
const MICROPHONE = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const LAYERS = [new VideoPreset(320, 180, 120_000, 15)];

LivekitClient.setLogLevel(new URLSearchParams(location.search).has("trace") ? "trace" : "info");

const people = new Map();
const connections = []; // every peer connection of the page

/** Which peer connection a receiver belongs to. */
const carriers = new WeakMap();

window.RTCPeerConnection = class extends window.RTCPeerConnection {
  constructor(...parameters) {
    super(...parameters);
    connections.push(this);
    this.addEventListener("track", ({ receiver }) => carriers.set(receiver, this));
  }
};

/** A tone, half of each second, shared by the page: longer than the beeps of the made-up microphone, and for any number of people. */
let tone;
function toneTrack() {
  if (!tone) {
    const context = new AudioContext();
    tone = context.createMediaStreamDestination();
    const pulse = new OscillatorNode(context, { type: "square", frequency: 1 });
    const volume = new GainNode(context, { gain: 0.2 });
    pulse.connect(new GainNode(context, { gain: 0.2 })).connect(volume.gain); // between silence and 0.4
    const sound = new OscillatorNode(context, { frequency: 440 });
    sound.connect(volume).connect(tone);
    sound.start();
    pulse.start();
  }
  return tone.stream.getAudioTracks()[0].clone();
}

/** What one of a crowd publishes, shared by the page: a small picture that changes each second, or silence. */
const trifles = {
  camera() {
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 90 });
    const context = canvas.getContext("2d");
    let count = 0;
    setInterval(() => {
      context.fillStyle = count++ % 2 ? "teal" : "navy";
      context.fillRect(0, 0, 160, 90);
    }, 1000);
    return canvas.captureStream(1);
  },
  microphone() {
    const context = new AudioContext();
    const sound = context.createMediaStreamDestination();
    const silence = new ConstantSourceNode(context, { offset: 0 });
    silence.connect(sound);
    silence.start();
    return sound.stream;
  },
};
const made = new Map();

/** The driver's way in. */
window.call = (identity, method, parameters) => {
  if (method === "join") people.set(identity, new Participant(identity));
  return people.get(identity)[method](...parameters);
};

class Participant {
  constructor(identity) {
    this.identity = identity;
    /** What happened, in order: { event, ...details, at }. */
    this.events = [];
    this.messages = [];
  }

  note(event, details = {}) {
    this.events.push({ event, ...details, at: Math.round(performance.now()) });
  }

  /** Joins the room whose token the server hands out; `secret` turns end-to-end encryption on, `unseen` shows nothing. */
  async join({ url, token, options = {}, connect = {}, secret, unseen = false }) {
    this.unseen = unseen;
    const settings = {
      videoCaptureDefaults: { resolution: CAMERA },
      audioCaptureDefaults: MICROPHONE,
      publishDefaults: { videoSimulcastLayers: LAYERS },
      ...options,
    };
    if (secret) {
      const keyProvider = new ExternalE2EEKeyProvider();
      await keyProvider.setKey(secret);
      const client = new URLSearchParams(location.search).get("client");
      settings.encryption = { keyProvider, worker: new Worker(`/${client}/livekit-client.e2ee.worker.js`) };
    }
    this.room = new Room(settings);
    this.listen();
    if (secret) await this.room.setE2EEEnabled(true);
    const started = performance.now();
    await this.room.connect(url, token, { maxRetries: 0, ...connect });
    // livekit-client does not hand this on to where negotiations are timed.
    if (connect.peerConnectionTimeout) this.room.engine.pcManager.peerConnectionTimeout = connect.peerConnectionTimeout;
    return Math.round(performance.now() - started);
  }

  listen() {
    const { room } = this;
    const on = (event, details) => room.on(event, (...values) => this.note(event, details?.(...values)));
    on(RoomEvent.Connected);
    on(RoomEvent.Reconnecting);
    on(RoomEvent.SignalReconnecting);
    on(RoomEvent.Reconnected);
    on(RoomEvent.Disconnected, (reason) => ({ reason }));
    on(RoomEvent.ParticipantConnected, (who) => ({ who: who.identity }));
    on(RoomEvent.ParticipantDisconnected, (who) => ({ who: who.identity }));
    on(RoomEvent.TrackSubscriptionFailed, (sid, who, reason) => ({ sid, who: who?.identity, reason }));
    on(RoomEvent.TrackStreamStateChanged, (publication, state) => ({ sid: publication.trackSid, state }));
    on(RoomEvent.ConnectionQualityChanged, (quality, who) => ({ quality, who: who.identity }));
    on(RoomEvent.ActiveSpeakersChanged, (speakers) => ({ speakers: speakers.map((who) => who.identity) }));
    on(RoomEvent.EncryptionError, (error) => ({ error: String(error?.message ?? error) }));
    on(RoomEvent.LocalTrackUnpublished, (publication) => ({ source: publication.source }));
    room.on(RoomEvent.DataReceived, (bytes, from, kind, topic) => {
      this.messages.push({ text: new TextDecoder().decode(bytes), from: from?.identity, reliable: kind === 0, topic });
    });
    room.on(RoomEvent.TrackSubscribed, (track, publication, from) => {
      this.note("trackSubscribed", { sid: publication.trackSid, who: from.identity, source: track.source });
      this.show(track, from.identity);
    });
    room.on(RoomEvent.TrackUnsubscribed, (track, publication, from) => {
      this.note("trackUnsubscribed", { sid: publication.trackSid, who: from.identity, source: track.source });
      for (const element of track.detach()) element.remove();
    });
    // Only the engine tells a resumed connection from one that was made anew.
    room.engine?.on("resumed", () => this.note("resumed"));
    room.engine?.on("restarted", () => this.note("restarted"));
    room.registerTextStreamHandler("essay", async (reader, { identity }) => {
      this.messages.push({ text: await reader.readAll(), from: identity, topic: "essay" });
    });
    room.registerRpcMethod("shout", async ({ payload }) => payload.toUpperCase());
  }

  show(track, identity) {
    if (this.unseen) return;
    const element = track.attach();
    element.dataset.tile = `${this.identity} ${identity} ${track.source}`;
    element.title = `${identity} ${track.source}`;
    document.getElementById("tiles").append(element);
  }

  /** Sets the size of the tile in which this participant sees another one; 0 hides it. */
  resize(identity, width, source = "camera") {
    const tile = document.querySelector(`[data-tile="${this.identity} ${identity} ${source}"]`);
    tile.style.display = width ? "" : "none";
    tile.style.width = `${width}px`;
    tile.style.height = `${Math.round((width * 9) / 16)}px`;
  }

  /** The mean colour of what a tile shows: red, green, blue. */
  colour(identity, source) {
    const tile = document.querySelector(`[data-tile="${this.identity} ${identity} ${source}"]`);
    if (!tile?.videoWidth) return [];
    const context = Object.assign(document.createElement("canvas"), { width: 16, height: 16 }).getContext("2d");
    context.drawImage(tile, 0, 0, 16, 16);
    const { data } = context.getImageData(0, 0, 16, 16);
    const sum = [0, 0, 0];
    for (let at = 0; at < data.length; at += 4) for (let part = 0; part < 3; part++) sum[part] += data[at + part];
    return sum.map((one) => Math.round(one / 256));
  }

  async publishTone() {
    // Firefox makes no sound without a loudspeaker; what it makes up for a microphone is a tone.
    if (navigator.userAgent.includes("Firefox")) return this.microphone(true);
    await this.room.localParticipant.publishTrack(toneTrack(), { source: Track.Source.Microphone });
  }

  /** Publishes what costs the machine as little as possible, as `camera` or `microphone`. */
  async publishTrifle(source) {
    if (!made.has(source)) made.set(source, trifles[source]());
    const [track] = made.get(source).getTracks();
    const small = { simulcast: false, videoEncoding: { maxBitrate: 30_000, maxFramerate: 1 } };
    await this.room.localParticipant.publishTrack(track.clone(), { source, ...small });
  }

  async microphone(on) { await this.room.localParticipant.setMicrophoneEnabled(on); }

  async camera(on, resolution) {
    await this.room.localParticipant.setCameraEnabled(on, resolution && { resolution });
  }

  async screen(on) { await this.room.localParticipant.setScreenShareEnabled(on, { resolution: { width: 640, height: 480, frameRate: 5 } }); }

  /** Unpublishes a track altogether (switching a camera off only mutes it). */
  async unpublish(source) {
    const publication = this.room.localParticipant.getTrackPublication(source);
    await this.room.localParticipant.unpublishTrack(publication.track);
  }

  /** Publishes a drawn picture of its own colour, beside all others. */
  async publishDrawing(name, colour) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
    const context = canvas.getContext("2d");
    let count = 0;
    setInterval(() => {
      context.fillStyle = colour;
      context.fillRect(0, 0, 320, 180);
      context.fillStyle = "white";
      context.fillText(`${name} ${count++}`, 20 + (count % 200), 90);
    }, 100);
    const [track] = canvas.captureStream(10).getVideoTracks();
    await this.room.localParticipant.publishTrack(track, { name, source: Track.Source.ScreenShare, simulcast: false });
  }

  send(text, options) {
    return this.room.localParticipant.publishData(new TextEncoder().encode(text), options);
  }

  async sendText(text) { await this.room.localParticipant.sendText(text, { topic: "essay" }); }

  shout(destinationIdentity, payload) {
    return this.room.localParticipant.performRpc({ destinationIdentity, method: "shout", payload, responseTimeout: 8000 });
  }

  async describe({ name, metadata, attributes }) {
    const me = this.room.localParticipant;
    if (name) await me.setName(name);
    if (metadata) await me.setMetadata(metadata);
    if (attributes) await me.setAttributes(attributes);
  }

  publication(identity, source) {
    return this.room.remoteParticipants.get(identity)?.getTrackPublication(source);
  }

  subscribe(identity, source, on) { this.publication(identity, source).setSubscribed(on); }

  quality(identity, name, source = "camera") { this.publication(identity, source).setVideoQuality(VideoQuality[name]); }

  enable(identity, source, on) { this.publication(identity, source).setEnabled(on); }

  async leave() { await this.room.disconnect(); }

  simulate(scenario) { return this.room.simulateScenario(scenario); }

  /** Events and messages so far. */
  log() { return { events: this.events, messages: this.messages, state: this.room?.state }; }

  /** Whom this participant sees: names, tracks and what the browser counted of each. */
  async view() {
    const { room } = this;
    const others = {};
    for (const who of room.remoteParticipants.values()) {
      const tracks = {};
      for (const publication of who.trackPublications.values()) {
        tracks[publication.source] = {
          sid: publication.trackSid,
          muted: publication.isMuted,
          subscribed: publication.isSubscribed,
          encrypted: publication.isEncrypted,
          paused: publication.track?.streamState === "paused",
          ...(await received(publication.track)),
        };
      }
      others[who.identity] = {
        sid: who.sid, name: who.name, metadata: who.metadata, attributes: who.attributes,
        speaking: who.isSpeaking, level: who.audioLevel, quality: who.connectionQuality, tracks,
      };
    }
    return { sid: room.localParticipant.sid, state: room.state, others };
  }

  /** How many others there are, of how many sound arrives, and of how many pictures are decoded: by one question to the browser. */
  async count() {
    const tracks = [...this.room.remoteParticipants.values()].flatMap((who) => [...who.trackPublications.values()])
      .map((publication) => publication.track).filter((track) => track?.receiver);
    const arrived = new Set();
    for (const connection of new Set(tracks.map((track) => carriers.get(track.receiver)))) {
      for (const one of (await connection.getStats()).values()) {
        if (one.type === "inbound-rtp" && (one.framesDecoded ?? one.packetsReceived) > 0) arrived.add(one.trackIdentifier);
      }
    }
    const of = (kind) => tracks.filter((track) => track.kind === kind && arrived.has(track.receiver.track.id)).length;
    return [this.room.remoteParticipants.size, of("audio"), of("video")];
  }

  /** What this participant sends of a source: one entry per layer. */
  async sent(source) {
    const sender = this.room.localParticipant.getTrackPublication(source)?.track?.sender;
    if (!sender) return [];
    const active = new Map(sender.getParameters().encodings.map((encoding) => [encoding.rid ?? "", encoding.active]));
    return [...(await sender.getStats()).values()].filter((one) => one.type === "outbound-rtp").map((one) => ({
      rid: one.rid ?? "", active: active.get(one.rid ?? "") ?? true,
      width: one.frameWidth ?? 0, frames: one.framesSent ?? 0, packets: one.packetsSent ?? 0,
      bytes: one.bytesSent ?? 0, codec: one.codecId, limited: one.qualityLimitationReason,
    }));
  }
}

/** What the browser counted of a remote track. */
async function received(track) {
  if (!track) return {};
  const report = await track.getRTCStatsReport();
  for (const one of report?.values() ?? []) {
    if (one.type !== "inbound-rtp") continue;
    return {
      frames: one.framesDecoded ?? 0, width: one.frameWidth ?? 0, keyFrames: one.keyFramesDecoded ?? 0,
      packets: one.packetsReceived ?? 0, lost: one.packetsLost ?? 0, energy: one.totalAudioEnergy ?? 0,
      freezes: one.freezeCount ?? 0, mid: one.mid, codec: report.get(one.codecId)?.mimeType,
      samples: one.totalSamplesReceived, concealed: one.concealedSamples, silent: one.silentConcealedSamples,
    };
  }
  return {};
}

/** The page's peer connections: state, the pair of addresses in use and how many media lines there are. */
window.transports = async () => {
  const found = [];
  for (const connection of connections.filter((one) => one.connectionState !== "closed")) {
    const report = await connection.getStats();
    const all = [...report.values()];
    const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
    const pair = transport && report.get(transport.selectedCandidatePairId);
    const [own, remote] = [pair?.localCandidateId, pair?.remoteCandidateId].map((id) => id && report.get(id));
    found.push({
      state: connection.connectionState,
      lines: connection.getTransceivers().length,
      receiving: connection.getTransceivers().filter((one) => one.currentDirection?.includes("recv")).length,
      own: own?.id, relay: own?.relayProtocol, rtt: pair?.currentRoundTripTime,
      protocol: remote?.protocol, address: remote?.address, port: remote?.port,
    });
  }
  return found;
};
