#!/usr/bin/env node
// A complete agent for hermes-gw's `exec` and `socket` endpoints. Needs nothing but Node's standard library.
//
//     node agent.js            started by the gateway: command = ["node", "agent.js"]
//     node agent.js SOCKET     started by you: kind = "socket"
//
// It answers every message with what was said. Replace `answer` by your own agent. What matters:
//
// * `ready` is a lease: it is repeated, or the gateway keeps events until it is.
// * An event is acknowledged by answering its request, after the reply was accepted. An event that was
//   not acknowledged comes again, with `attempt` > 1.
// * A reply has a key. The same key again sends nothing again, so a repeated event costs no second message.
// * `/stop` in the chat aborts `signal`: what is returned then is the answer.

"use strict";

const net = require("node:net");
const readline = require("node:readline");

const LEASE_MS = 30_000;

/** What to say to an event; null: nothing. */
async function answer(event, signal) {
  if (event.kind !== "message" || signal.aborted) return null;
  return `You said: ${event.text}`;
}

let told = null;

/** Says once why it is not served. */
function tell(why) {
  if (why !== told) console.error(`not served at ${process.argv[2]}: ${why}; trying again`);
  told = why;
}

/** One connection: requests from both sides, one JSON object a line. */
class Gateway {
  constructor(input, output) {
    this.output = output;
    this.waiting = new Map();
    this.working = new Map();
    this.last = 0;
    this.refused = false;
    this.ended = new Promise((ended) => {
      const lines = readline.createInterface({ input, crlfDelay: Infinity });
      lines.on("line", (line) => this.hear(line));
      lines.on("close", ended);
      // The connection is cut: what it means is told by the end.
      lines.on("error", () => {});
    });
  }

  send(message) {
    this.output.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
  }

  /** Asks the gateway and waits for its answer. */
  call(method, params = {}) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.send({ id, method, params });
    });
  }

  hear(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      return;
    }
    if (message.method === "event.deliver") {
      this.work(message.id, message.params);
    } else if (message.method === "event.interrupt") {
      this.working.get(message.params.event_id)?.abort();
    } else if (message.id === null && message.error) {
      // Said to no request, as to an agent that is turned away.
      this.refused = true;
      tell(message.error.message);
    } else if (message.method === undefined && this.waiting.has(message.id)) {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) reject(new Error(`${message.error.message} (${message.error.code})`));
      else resolve(message.result);
    } else if (message.method !== undefined && message.id !== undefined) {
      this.send({ id: message.id, error: { code: -32601, message: "unknown method" } });
    }
  }

  /** Works on an event; its request is answered last of all. */
  async work(id, event) {
    const stop = new AbortController();
    this.working.set(event.event_id, stop);
    try {
      const text = await answer(event, stop.signal);
      if (text) {
        await this.call("message.send", {
          key: `reply-to-${event.event_id}`,
          instance: event.instance,
          chat_id: event.chat_id,
          thread_id: event.thread_id,
          reply_to: event.message_id,
          text,
        });
      }
      this.send({ id, result: {} });
    } catch (error) {
      this.send({ id, error: { code: 1, message: String(error.message) } });
    } finally {
      this.working.delete(event.event_id);
    }
  }

  async serve() {
    await this.call("initialize", { protocol: 1, name: "agent.js", interrupt: true });
    told = null;
    const ready = () => this.call("ready", { lease_ms: LEASE_MS }).catch(() => {});
    await ready();
    const renewal = setInterval(ready, LEASE_MS / 3);
    await this.ended;
    clearInterval(renewal);
  }
}

async function main() {
  const path = process.argv[2];
  if (!path) {
    await new Gateway(process.stdin, process.stdout).serve();
    process.exit(0);
  }
  // The gateway may not be there yet, or go away: dial again for ever.
  for (;;) {
    const socket = net.connect(path);
    let gateway = null;
    socket.on("error", (error) => gateway?.refused || tell(error.message));
    await new Promise((done) => {
      socket.once("connect", () => {
        gateway = new Gateway(socket, socket);
        gateway.serve().catch(() => {}).finally(done);
      });
      socket.once("close", done);
    });
    await new Promise((later) => setTimeout(later, 1000));
  }
}

main();
