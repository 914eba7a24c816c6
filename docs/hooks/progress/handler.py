"""Says in the chat that the agent works on something, and when that is over, how long it took.

Needs nothing but Python's standard library. It speaks in the chat that it was told about, by the token
that came with the occasion."""

import json
import socket

started = {}


def send(context, **message):
    """One request to the supervisor; its answer."""
    request = {
        "token": context["reply_token"],
        "instance": context["instance"],
        "chat_id": context["chat_id"],
        "thread_id": context["thread_id"],
        "wait_ms": 20_000,
        **message,
    }
    line = json.dumps({"id": 1, "method": "message.send", "params": request}) + "\n"
    with socket.socket(socket.AF_UNIX) as gateway:
        gateway.connect(context["socket"])
        gateway.sendall(line.encode())
        answer = json.loads(gateway.makefile().readline())
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer["result"]


def handle(event, context):
    attempt = (context["event_id"], context["attempt"])
    key = f"progress-{context['event_id']}-{context['attempt']}"
    if event == "agent:start":
        send(context, key=key, reply_to=context["message_id"], text="at work …")
        started[attempt] = context["time_ms"]
    elif attempt in started:
        seconds = (context["time_ms"] - started.pop(attempt)) / 1000
        text = f"{context['outcome']} after {seconds:.1f} s"
        send(context, key=key + "-end", reply_to=context["message_id"], text=text)
