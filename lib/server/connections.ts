// The connections of a server, so that it can end: Node.js waits a minute for one on which nothing was asked yet, as clients keep them.

import type { Server } from "node:http";
import type { Socket } from "node:net";

export class Connections {
  readonly #open = new Set<Socket>();
  readonly #busy = new Set<Socket>();
  #isEnding = false;

  constructor(server: Server) {
    server.on("connection", (socket: Socket) => {
      this.#open.add(socket);
      socket.once("close", () => this.#open.delete(socket));
    });
    server.on("request", ({ socket }, response) => {
      this.#busy.add(socket);
      response.once("close", () => {
        this.#busy.delete(socket);
        if (this.#isEnding) socket.end();
      });
    });
  }

  /** Ends those on which nothing is under way, and the others when they are done. */
  end(): void {
    this.#isEnding = true;
    for (const socket of this.#open) if (!this.#busy.has(socket)) socket.destroy();
  }
}
