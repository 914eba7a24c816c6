"""Says in the chat that the agent works on something; when that is over, the same message says how long it took.

Needs nothing but Python's standard library. It speaks in the chat that it was told about, by the token
that came with the occasion."""

import json
import socket

started = {}


def send(context, **message):
    """One request to the supervisor; its answer. `hermes-gw hooks test` has none, and no chat to speak in."""
    if not context["socket"]:
        return {"message_ids": []}
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
        sent = send(context, key=key, reply_to=context["message_id"], text="at work …")
        started[attempt] = context["time_ms"], sent["message_ids"]
    elif attempt in started:
        since, message_ids = started.pop(attempt)
        text = f"{context['outcome']} after {(context['time_ms'] - since) / 1000:.1f} s"
        for message_id in message_ids[:1]:
            send(context, key=key + "-end", edit=message_id, text=text)
