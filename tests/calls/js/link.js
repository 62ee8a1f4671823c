// The wire between one participant and the server's signalling port, which the driver can cut or hold.

import net from "node:net";

export class Link {
  /** Listens on a free loopback port and forwards to `port`. */
  static open(port) {
    const link = new Link();
    link.sockets = new Set();
    link.held = false;
    link.listener = net.createServer((near) => link.join(near, net.connect(port, "127.0.0.1")));
    return new Promise((resolve, reject) => {
      link.listener.once("error", reject);
      link.listener.listen(0, "127.0.0.1", () => {
        link.port = link.listener.address().port;
        resolve(link);
      });
    });
  }

  join(near, far) {
    for (const [from, to] of [[near, far], [far, near]]) {
      this.sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => { this.sockets.delete(from); to.destroy(); });
      from.pipe(to);
      if (this.held) from.pause();
    }
  }

  /** Breaks all connections; new ones are possible at once. */
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /** Lets nothing through any more, but closes nothing: what a client sees that lost its network. */
  hold() {
    this.held = true;
    for (const socket of this.sockets) socket.pause();
  }

  /** New connections go through again; those that were held are gone. */
  release() {
    this.held = false;
    this.cut();
  }

  close() {
    this.listener.close();
    this.cut();
  }
}
