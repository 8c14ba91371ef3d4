// A server of streams that keeps to the interface, and that can be cut, blocked, silenced and stopped.

import { createServer } from "node:http";
import { once } from "node:events";

const FINAL = ["completed", "failed", "cancelled"];

export class StreamServer {
  events = [];
  opened = []; // the address of each stream that was asked for
  looks = 0; // at the task
  broken = 0; // streams to be answered with this status
  silent = false; // streams get headers, but nothing more
  account = "account-token";
  #clients = new Set();

  async start(port = 0) {
    this.server = createServer((request, response) => this.#answer(request, response));
    this.server.listen(port, "127.0.0.1");
    await once(this.server, "listening");
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async stop() {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, "close");
    this.#clients.clear();
  }

  get open() {
    return this.#clients.size;
  }

  /** A new event, for all who watch. */
  tell(data) {
    this.events.push({ id: this.events.length + 1, data: { timestamp: this.events.length + 1, ...data } });
    for (const client of [...this.#clients]) this.#send(client);
  }

  /** A named event, which is told to whoever watches now. */
  extra(name, data) {
    for (const { response } of this.#clients) response.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Break all connections, as a network does. */
  hangUp() {
    for (const { response } of this.#clients) response.destroy();
  }

  #answer(request, response) {
    const url = new URL(request.url, this.url);
    if (url.pathname.endsWith("/stream")) return this.#stream(request, response, url);
    this.looks += 1;
    if (request.headers.authorization !== `Bearer ${this.account}`) {
      return json(response, 401, { code: "unauthenticated", detail: "The token has expired." });
    }
    const last = this.events.at(-1)?.data ?? { status: "pending", progress: 0, step: 0, message: "" };
    const name = `https://other.example/api/v1${url.pathname.split("/api/v1")[1]}`;
    return json(response, 200, {
      id: 1,
      ...last,
      error_message: last.error ?? null,
      updated_at: new Date((last.timestamp ?? 0) * 1000).toISOString(),
      stream_url: `${name}/stream?token=scoped-${this.looks}`,
    });
  }

  #stream(request, response, url) {
    this.opened.push(url);
    if (this.broken) return json(response, this.broken, {});
    const cursor = Number(request.headers["last-event-id"] ?? url.searchParams.get("last_event_id") ?? 0);
    if (FINAL.includes(this.events.at(-1)?.data.status) && cursor === this.events.length) {
      response.writeHead(204).end();
      return undefined;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write("retry: 20\n\n");
    const client = { response, cursor };
    this.#clients.add(client);
    response.on("close", () => this.#clients.delete(client));
    return this.#send(client);
  }

  #send(client) {
    if (this.silent) return;
    for (const { id, data } of this.events.slice(client.cursor)) {
      client.response.write(`id: ${id}\ndata: ${JSON.stringify(data)}\n\n`);
      client.cursor = id;
      if (FINAL.includes(data.status)) client.response.end();
    }
  }
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
