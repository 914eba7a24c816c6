"""An agent that speaks the Agent Client Protocol, for tests. It keeps its sessions in `sessions.json`, a user's message before it
works on it, and its answer after it. What it is told decides what it does: `crash`, `hang`, `permit`, `slow`.
"""

import json
import os
import sys
import threading
import time

lock = threading.Lock()
memory = threading.RLock()
cancelled = {}
answers = {}
print("a banner that is no line of the protocol", flush=True)
print("a word on standard error", file=sys.stderr, flush=True)


def load():
    try:
        with memory, open("sessions.json") as kept:
            return json.load(kept)
    except FileNotFoundError:
        return {}


def save(sessions):
    with memory:
        with open("sessions.new", "w") as new:
            json.dump(sessions, new)
        os.replace("sessions.new", "sessions.json")


def keep(session, role, text):
    with memory:
        sessions = load()
        sessions[session].append([role, text])
        save(sessions)


def say(message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def update(session, kind, text):
    content = {"type": "text", "text": text}
    params = {"sessionId": session, "update": {"sessionUpdate": kind, "content": content}}
    say({"method": "session/update", "params": params})


def turn(request, session, text):
    keep(session, "user", text)
    if "crash" in text and not os.path.exists("crashed"):
        open("crashed", "w").close()
        os.abort()
    reason = "end_turn"
    if "hang" in text:
        # Before anybody can know of it and end it.
        cancelled[session] = threading.Event()
        update(session, "agent_message_chunk", "thinking…")
        cancelled[session].wait()
        reason = "cancelled"
    elif "permit" in text:
        options = [{"optionId": "yes", "name": "Yes", "kind": "allow_once"},
                   {"optionId": "no", "name": "No", "kind": "reject_once"}]
        answers[session] = threading.Event()
        tool = {"toolCallId": "t", "title": "format the disk"}
        say({"id": "ask-" + session, "method": "session/request_permission",
             "params": {"sessionId": session, "toolCall": tool, "options": options}})
        answers[session].wait()
        update(session, "agent_message_chunk", "done: " + answers[session].outcome)
    else:
        before = len(load()[session])
        for word in ("You ", "said: ", text.rsplit("\n", 1)[-1]):
            update(session, "agent_message_chunk", word)
            time.sleep(0.5 if "slow" in text else 0)
        update(session, "agent_message_chunk", f" [{before}]")
    keep(session, "agent", "an answer")
    say({"id": request, "result": {"stopReason": reason}})


def handle(message):
    request, method = message.get("id"), message.get("method")
    params = message.get("params") or {}
    if method == "initialize":
        say({"id": request, "result": {
            "protocolVersion": 1, "agentInfo": {"name": "a test"},
            "agentCapabilities": {"loadSession": True},
        }})
    elif method == "session/new":
        with memory:
            sessions = load()
            name = f"s{len(sessions)}"
            sessions[name] = []
            save(sessions)
        say({"id": request, "result": {"sessionId": name}})
    elif method == "session/load":
        for role, text in load()[params["sessionId"]]:
            update(params["sessionId"], role + "_message_chunk", text)
        say({"id": request, "result": None})
    elif method == "session/prompt":
        text = params["prompt"][0]["text"]
        threading.Thread(target=turn, args=(request, params["sessionId"], text), daemon=True).start()
    elif method == "session/cancel":
        cancelled[params["sessionId"]].set()
    elif str(request).startswith("ask-"):
        asked = answers[request[4:]]
        asked.outcome = message["result"]["outcome"].get("optionId", "nothing")
        asked.set()


for line in sys.stdin:
    handle(json.loads(line))
