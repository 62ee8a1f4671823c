// Runs in every frame before its own scripts: keeps each peer connection, so that a scenario can ask what it decodes.
// Where `relayOnly` is set, they use the server's relay and no direct way.

"use strict";
(() => {
  const connections = [];
  const limited = (configuration) => (window.relayOnly ? { ...configuration, iceTransportPolicy: "relay" } : configuration);
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(configuration, ...others) {
      super(limited(configuration), ...others);
      connections.push(this);
    }

    setConfiguration(configuration) { super.setConfiguration(limited(configuration)); }
  };

  /** The kinds of the own addresses that are in use. */
  window.ways = async () => {
    const kinds = [];
    for (const connection of connections.filter((one) => one.connectionState === "connected")) {
      const report = await connection.getStats();
      const transport = [...report.values()].find((one) => one.type === "transport");
      kinds.push(report.get(report.get(transport?.selectedCandidatePairId)?.localCandidateId)?.candidateType);
    }
    return kinds;
  };

  /** What arrives from others, summed over the connections: one entry per incoming track that has had packets. */
  window.incoming = async () => {
    const tracks = [];
    for (const connection of connections) {
      if (connection.connectionState === "closed") continue;
      for (const one of (await connection.getStats()).values()) {
        if (one.type !== "inbound-rtp" || !one.packetsReceived) continue;
        tracks.push({
          id: `${connections.indexOf(connection)}/${one.mid}/${one.ssrc}`, kind: one.kind, packets: one.packetsReceived,
          frames: one.framesDecoded ?? 0, width: one.frameWidth ?? 0, energy: one.totalAudioEnergy ?? 0,
        });
      }
    }
    return tracks;
  };
})();
