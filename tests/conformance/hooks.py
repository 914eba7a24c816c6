"""The registry of hermes-agent and the real gateway run the same hook directories. What a handler is told by both must have
the same members, of the same types and, but for the name of the session, the same values. Prints `ok` or `FAIL` for each check.

Usage: hooks.py HERMES_GW SIM_TELEGRAM        (with a Python that has hermes-agent and PyYAML)
"""

import asyncio
import importlib.metadata
import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import types

from process import Process

GATEWAY, SIMULATOR = sys.argv[1:3]
TOKEN = "7703:judged-by-hermes-itself"
SOON = 30

# As people write them: annotations that are looked up late, a plain and an async function, a family of events, and the
# advice of Hermes's own documentation for topics.
HANDLERS = {
    "typed": ("[agent:start, agent:end]", """
from __future__ import annotations
import dataclasses, json, sys, typing

@dataclasses.dataclass
class Told:
    kind: str
    context: dict

assert typing.get_type_hints(Told)["kind"] is str

async def handle(event_type, context):
    told = Told(event_type, dict(context))
    with open(PLACE, "a") as file:
        file.write(json.dumps([told.kind, told.context]) + "\\n")
"""),
    "family": ('["agent:*"]', """
import json

count = 0

def handle(event_type, context):
    global count
    count += 1
    extra = {}
    if context["chat_type"] == "forum" and context["thread_id"]:
        extra["message_thread_id"] = int(context["thread_id"])
    with open(PLACE, "a") as file:
        file.write(json.dumps([event_type, {"count": count, "chat": context["chat_id"], **extra}]) + "\\n")
"""),
}


def directories(place, name):
    """The hook directories, writing beside them what they hear."""
    for hook, (events, code) in HANDLERS.items():
        directory = place / name / hook
        directory.mkdir(parents=True)
        (directory / "HOOK.yaml").write_text(f"name: {hook}\ndescription: a hook\nevents: {events}\n")
        target = place / f"{name}-{hook}"
        (directory / "handler.py").write_text(code.replace("PLACE", repr(str(target))))
    return place / name


def heard(place, name, hook):
    file = place / f"{name}-{hook}"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def registry(home):
    """Hermes's own, unchanged; where its home is, it asks a module that would load everything else."""
    config = types.ModuleType("hermes_cli.config")
    config.get_hermes_home = lambda: home
    sys.modules["hermes_cli"] = types.ModuleType("hermes_cli")
    sys.modules["hermes_cli.config"] = config
    files = importlib.metadata.files("hermes-agent")
    path = next(file.locate() for file in files if str(file) == "gateway/hooks.py")
    spec = importlib.util.spec_from_file_location("hermes_hooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HookRegistry()


# What is said: user, text, chat, topic; and as Hermes's adapter for Telegram would describe where.
SAID = [
    ({"user": 2001, "text": "in a direct chat"}, {"chat_id": "2001", "thread_id": "", "chat_type": "dm"}),
    ({"user": 2002, "text": "in a group", "chat": -1002}, {"chat_id": "-1002", "thread_id": "", "chat_type": "group"}),
    ({"user": 2003, "text": "in a topic", "chat": -1003, "topic": 7},
     {"chat_id": "-1003", "thread_id": "7", "chat_type": "forum"}),
]


async def by_hermes(home):
    hooks = registry(home)
    hooks.discover_and_load()
    for said, where in SAID:
        # The members of gateway/run.py.
        context = {"platform": "telegram", "user_id": str(said["user"]), **where, "session_id": "s",
                   "message": said["text"]}
        await hooks.emit("agent:start", context)
        await hooks.emit("agent:end", {**context, "response": said["text"]})


def by_the_gateway(place, home):
    sim = Process([SIMULATOR, "--bot", f"{TOKEN}=judge_bot"])
    base_url = sim.wait(SOON, seen="listening")["base_url"]
    (place / "token").write_text(TOKEN)
    (place / "gw.toml").write_text(f"""
        [gateway]
        state_dir = "s"
        [platform.telegram]
        token_file = "token"
        base_url = "{base_url}"
        access = {{ direct = "open", groups = "all", chats = [-1002, -1003] }}
        [agent.echo]
        [hooks]
        dir = "{home.name}"
    """)
    sim.tell(do="forum", chat=-1003, topics=[7])
    gateway = subprocess.Popen([GATEWAY, "supervise", "--config", place / "gw.toml"],
                               stdin=subprocess.DEVNULL, stderr=(place / "log").open("w"))
    try:
        sim.wait(SOON, seen="poll")
        for n, (said, _) in enumerate(SAID):
            sim.tell(do="push_text", **said)
            sim.wait_count(SOON, n + 1, seen="sent")
        # Its end is told by then: handlers of what is over are waited for.
        subprocess.run([GATEWAY, "ctl", "kill", "--config", place / "gw.toml"], check=True, stdout=subprocess.DEVNULL)
    finally:
        gateway.terminate()
        gateway.wait(20)
        sim.end()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hgw") as directory:
        place = pathlib.Path(directory)
        theirs, ours = directories(place, "hooks"), directories(place, "ours")
        asyncio.run(by_hermes(place))
        by_the_gateway(place, ours)

        def ordered(name):
            return sorted(heard(place, name, "typed"), key=lambda it: (it[1]["chat_id"], it[0] == "agent:end"))

        pairs = list(zip(ordered("hooks"), ordered("ours"), strict=False))
        wrong = []
        for (kind, their), (our_kind, our) in pairs:
            if kind != our_kind:
                wrong.append(f"{kind} is {our_kind}")
            for member, value in their.items():
                if type(our.get(member)) is not type(value) or (member != "session_id" and our[member] != value):
                    wrong.append(f"{kind}: {member} is {our.get(member)!r}, to Hermes {value!r}")

        def family(name):
            return sorted(([kind, {k: v for k, v in it.items() if k != "count"}] for kind, it in heard(place, name, "family")),
                          key=json.dumps)

        counts = [it["count"] for _, it in heard(place, "ours", "family")]
        for text, holds in {
            "hooks: each occasion is told as often as by Hermes": len(pairs) == 2 * len(SAID)
                and len(ordered("ours")) == len(pairs),
            "hooks: every member of Hermes is there, with its type and value": not wrong,
            "hooks: a family of events, and the documented way into a topic": family("hooks") == family("ours") != [],
            "hooks: a module stays loaded": counts == list(range(1, 2 * len(SAID) + 1)),
        }.items():
            failed += not holds
            print(f"{'ok  ' if holds else 'FAIL'} {text}", flush=True)
        if failed:
            print(wrong, ordered("hooks"), ordered("ours"), family("hooks"), family("ours"), sep="\n")
            print((place / "log").read_text()[-3000:])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
