"""An agent for tests: writes down what it hears, and works on "work…" until it is told to end or a file `go` is there."""

import json
import os
import sys
import threading
import time

lock = threading.Lock()
held = {}
calls = 0


def say(message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def call(method, params):
    global calls
    with lock:
        calls += 1
        name = calls
    say({"id": name, "method": method, "params": params})


def finish(request, event, text):
    where = {name: event[name] for name in ("instance", "chat_id", "thread_id")}
    call("message.send", {"key": "t" + event["event_id"], "text": text, **where})
    say({"id": request, "result": {}})


def watch():
    while True:
        time.sleep(0.02)
        if os.path.exists("go"):
            with lock:
                done = list(held.values())
                held.clear()
            for request, event in done:
                finish(request, event, "worked: " + event["text"] + event.get("more", ""))


def deliver(request, event):
    with open("heard", "a") as log:
        log.write(json.dumps(event) + "\n")
    if event.get("steers"):
        if event["steers"] in held and event["text"] in ("more", "again"):
            held[event["steers"]][1]["more"] = " + " + event["text"]
            say({"id": request, "result": {}})
        elif event["text"] != "silence":
            say({"id": request, "error": {"code": 1, "message": "not into this"}})
    elif event["text"].startswith("work"):
        held[event["event_id"]] = (request, event)
    else:
        finish(request, event, "said: " + event["text"])


threading.Thread(target=watch, daemon=True).start()
able = sys.argv[1:]
call("initialize", {"protocol": 1, "interrupt": "interrupt" in able, "steer": "steer" in able})
call("ready", {"lease_ms": 600000})
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "event.deliver":
        deliver(message["id"], message["params"])
    elif message.get("method") == "event.interrupt":
        found = held.pop(message["params"]["event_id"], None)
        if found:
            finish(*found, "interrupted: " + found[1]["text"])
