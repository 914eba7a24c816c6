"""A platform in files, for tests: its users write lines of JSON to `queue`, what the bot says is appended to `sent`.

It speaks with the gateway as docs/matrix.py does. `options.json` says what is special about it.
"""

import json
import os
import signal
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])
import matrix  # noqa: E402


def append(name, what):
    line = json.dumps(what) + "\n"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def lines(name):
    try:
        with open(name) as file:
            return [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []


options = (lines("options.json") or [{}])[0]
sending = threading.Lock()


def send(message):
    for text, fault in options.get("faults", {}).items():
        if text in message["text"] and message["attempt"] <= fault.get("times", 99):
            raise matrix.Failed(fault["message"], fault.get("code", 1), fault.get("after_ms"))
    if "slow" in options:
        append("begun", message)
        time.sleep(options["slow"])
    with sending:
        if options.get("initialize", {}).get("idempotent_ms"):
            for known in lines("sent"):
                if known["key"] == message["key"]:
                    return {"message_ids": [known["id"]]}
        if options.get("numbers"):
            name = len(lines("sent"))
        else:
            name = f"s{len(lines('sent'))}"
        for file in message.get("files", []):
            with open(os.path.join(told["exchange"], file["file"])) as source:
                file["content"] = source.read()
        append("sent", {"id": name, **message})
    if options.get("dies_after_sending"):
        os._exit(1)
    return {"message_ids": [name]}


def draft(params):
    append("drafts", params)
    return {"message_id": params["message_id"] or "d1"}


def fetch(params):
    with open(os.path.join(told["exchange"], "brought"), "w") as file:
        file.write("the bytes of " + params["part"]["handle"])
    return {"file": "brought"}


answers = {
    "message.send": send,
    "message.draft": draft,
    "file.fetch": fetch,
    "busy": lambda busy: append("busy", busy),
}


def leave(*_):
    gateway.finish()
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
with open("pid.new", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid.new", "pid")
gateway = matrix.Gateway(sys.stdin.buffer, sys.stdout.buffer, answers)
told = gateway.call("initialize", **options.get("initialize", {}))
append("told", told)
ready = {"account": "bot", "lease_ms": 30000, **options.get("ready", {})}
gateway.call("ready", **ready)
at = told["cursor"] or 0
said = time.monotonic()
while True:
    queue = lines("queue")
    for event in queue[at:]:
        at += 1
        try:
            verdict = gateway.insist("event.deliver", cursor=at, **event)["verdict"]
        except matrix.Refused as refused:
            verdict = f"{refused.code}: {refused}"
        append("verdicts", verdict)
    for line in lines("calls")[len(lines("called")) :]:
        try:
            append("called", gateway.call(line["method"], **line["params"]))
        except matrix.Refused as refused:
            append("called", {"code": refused.code, "message": str(refused)})
    if time.monotonic() - said > 5 and not options.get("silent"):
        said = time.monotonic()
        gateway.call("ready", **ready)
    time.sleep(0.01)
