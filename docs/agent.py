#!/usr/bin/env python3
"""A complete agent for hermes-gw's `exec` and `socket` endpoints. Needs nothing but Python's standard library.

    python3 agent.py            started by the gateway: command = ["python3", "agent.py"]
    python3 agent.py SOCKET     started by you: kind = "socket"

It answers every message with what was said. Replace `answer` by your own agent. What matters:

* `ready` is a lease: it is repeated, or the gateway keeps events until it is.
* An event is acknowledged by answering its request, after the reply was accepted. An event that was
  not acknowledged comes again, with `attempt` > 1.
* A reply has a key. The same key again sends nothing again, so a repeated event costs no second
  message.
"""

import json
import queue
import socket
import sys
import threading
import time

LEASE_MS = 30_000


def answer(event):
    """What to say to an event. None: nothing."""
    if event["kind"] != "message":
        return None
    return f"You said: {event['text']}"


class Gateway:
    """One connection: requests from both sides, one JSON object a line."""

    def __init__(self, lines, out):
        self.lines, self.out = lines, out
        self.writing = threading.Lock()
        self.waiting = {}
        self.events = queue.Queue()
        self.last_id = 0
        self.ended = False
        self.refusal = None

    def send(self, message):
        line = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False) + "\n"
        with self.writing:
            # Half a character, as programs leave it that cut a text, stops nothing.
            self.out.write(line.encode(errors="replace"))
            self.out.flush()

    def call(self, method, **params):
        """Asks the gateway and waits for its answer."""
        reply = queue.Queue()
        with self.writing:
            if self.ended:
                raise ConnectionError("the gateway is gone")
            self.last_id += 1
            name = self.last_id
            self.waiting[name] = reply
        self.send({"id": name, "method": method, "params": params})
        message = reply.get()
        if message is None:
            raise ConnectionError(self.refusal or "the gateway is gone")
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def read(self):
        """Reads until the connection ends. Runs in a thread of its own."""
        try:
            for line in self.lines:
                message = json.loads(line)
                if message.get("id") is None and "error" in message:
                    # Said to no request, as to an agent that is turned away.
                    self.refusal = message["error"]["message"]
                elif "method" not in message:
                    waiting = self.waiting.pop(message.get("id"), None)
                    if waiting:
                        waiting.put(message)
                elif message["method"] == "event.deliver":
                    self.events.put(message)
                elif message["method"] == "message.receipt":
                    receipt = message["params"]
                    if receipt["state"] != "sent":
                        print(f"reply {receipt['key']}: {receipt['state']}", file=sys.stderr)
        except OSError:
            pass
        with self.writing:
            self.ended = True
            left = list(self.waiting.values())
        self.events.put(None)
        for waiting in left:
            waiting.put(None)

    def renew(self):
        """Keeps the lease. Runs in a thread of its own."""
        try:
            while True:
                time.sleep(LEASE_MS / 3000)
                self.call("ready", lease_ms=LEASE_MS)
        except (OSError, RuntimeError):
            pass

    def serve(self):
        """Handles events, one of each conversation at a time, until the connection ends."""
        threading.Thread(target=self.read, daemon=True).start()
        self.call("initialize", protocol=1, name="example", concurrency=16)
        self.call("ready", lease_ms=LEASE_MS)
        threading.Thread(target=self.renew, daemon=True).start()
        while (request := self.events.get()) is not None:
            threading.Thread(target=self.handle, args=(request,), daemon=True).start()

    def handle(self, request):
        event = request["params"]
        try:
            text = answer(event)
            if text:
                self.call(
                    "message.send",
                    key=f"answer to {event['event_id']}",
                    instance=event["instance"],
                    chat_id=event["chat_id"],
                    thread_id=event["thread_id"],
                    reply_to=event["message_id"],
                    text=text,
                )
            self.send({"id": request["id"], "result": {}})
        except OSError:
            pass
        except Exception as problem:
            # Not acknowledged: the gateway offers it again, and sets it aside after a few times.
            self.send({"id": request["id"], "error": {"code": 1, "message": str(problem)}})


def over_stdio():
    """One life: the gateway starts the program again when it ends."""
    out = sys.stdout.buffer
    # What else prints must not get between the lines.
    sys.stdout = sys.stderr
    try:
        Gateway(sys.stdin.buffer, out).serve()
    except OSError as problem:
        print(problem, file=sys.stderr)


def over_socket(path):
    """Connects again whenever the gateway went away, and says once why it cannot."""
    told = None
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                Gateway(connection.makefile("rb"), connection.makefile("wb")).serve()
            told = None
        except (OSError, RuntimeError) as problem:
            if str(problem) != told:
                told = str(problem)
                print(f"not served at {path}: {told}; trying again", file=sys.stderr)
        time.sleep(0.2)


def main(*arguments):
    try:
        over_socket(*arguments) if arguments else over_stdio()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: agent.py [SOCKET]   (`hermes-gw check` tells which)")
    main(*sys.argv[1:])
