// Conduits with empty data folders on loopback that federate with each other, ended by their process id.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, openSync, writeFileSync } from "node:fs";
import net from "node:net";
import { sleep, until } from "../report.js";

/** A certificate authority that all servers of a run trust. */
export function makeAuthority(folder) {
  const [certificate, key] = [`${folder}/ca.pem`, `${folder}/ca.key`];
  const openssl = (...parameters) => execFileSync("openssl", parameters, { stdio: "pipe" });
  openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key);
  openssl("req", "-x509", "-new", "-sha256", "-days", "7", "-key", key, "-out", certificate, "-subj", "/CN=Call test authority",
    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign");
  return { certificate, key };
}

function freePort(host) {
  return new Promise((resolve, reject) => {
    const probe = net.createServer().once("error", reject).listen(0, host, () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

export class Homeserver {
  /** @param host a loopback address of its own */
  static async prepare({ binary, folder, host, authority }) {
    const server = new Homeserver();
    mkdirSync(folder, { recursive: true });
    const [plain, secure, udp, tcp, turn, turns] = await Promise.all(Array.from({ length: 6 }, () => freePort(host)));
    Object.assign(server, { binary, folder, url: `http://${host}:${plain}`, name: `${host}:${secure}` });
    writeFileSync(`${folder}/conduit.toml`, `server_name = "${server.name}"
data_dir = "${folder}/data"
listeners = ["${host}:${plain}", "tls://${server.name}"]
registration = "open"
trusted_ca_file = "${authority.certificate}"
allow_private_addresses = true

[admin]
room = false

[client]
public_baseurl = "${server.url}"

[tls]
authority_certificate = "${authority.certificate}"
authority_key = "${authority.key}"

[federation]
trusted_key_servers = []

[rate_limits]
enabled = false

[sfu]
udp_port = ${udp}
tcp_port = ${tcp}
listen = ["${host}"]

[turn]
listen = ["${host}"]
port = ${turn}
tls_port = ${turns}
host = "${host}"
relay_addresses = ["${host}"]

[log]
level = "${process.env.CONDUIT_LOG ?? "info"}"
`);
    return server;
  }

  async start() {
    const log = openSync(`${this.folder}/log`, "a");
    this.process = spawn(this.binary, ["run", "--config", `${this.folder}/conduit.toml`], { stdio: ["ignore", log, log] });
    process.once("exit", () => this.process.kill("SIGKILL")); // whatever happens, nothing stays behind
    this.ended = new Promise((resolve) => { this.process.once("exit", resolve); });
    await until(`the server ${this.url} (its log: ${this.folder}/log)`, async () => {
      if (this.process.exitCode !== null) throw new Error(`the server ended by itself; see ${this.folder}/log`);
      return fetch(`${this.url}/_matrix/client/versions`).then((answer) => answer.ok, () => false);
    });
  }

  /** Ends the server by SIGTERM; fails when it does not end. */
  async stop() {
    if (!this.process || this.process.exitCode !== null) return;
    this.process.kill("SIGTERM");
    const late = sleep(30_000).then(() => "late");
    if ((await Promise.race([this.ended, late])) === "late") {
      this.process.kill("SIGKILL");
      throw new Error("the server did not stop within 30 s of SIGTERM");
    }
  }
}
