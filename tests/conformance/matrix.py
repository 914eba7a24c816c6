"""docs/matrix.py behind the real gateway, at a real Synapse. Prints `ok` or `FAIL` for each check.

Usage: matrix.py HERMES_GW        (with a Python that has `matrix-synapse`)
"""

import hashlib
import hmac
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

GATEWAY = sys.argv[1]
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Far longer than anything takes on a slow machine.
PATIENCE = 60

ACTOR = '''
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import agent

class Actor(agent.Gateway):
    """Does what it is told, and tells what it hears."""

    def sent(self, event, name, text="", **more):
        where = {key: event[key] for key in ("instance", "chat_id", "thread_id")}
        params = {"key": name + " " + event["event_id"], "text": text, **where, **more}
        while (state := self.call("message.send", **params))["state"] != "sent":
            if state["state"] in ("failed", "unknown"):
                raise RuntimeError(state["reason"])
            time.sleep(0.05)
        return (state["message_ids"] or [None])[0]

    def handle(self, request):
        event = request["params"]
        text, about = event["text"], event["message_id"]
        if event["kind"] != "message":
            self.sent(event, "a", f"{event['kind']} {about}: {text}")
        elif text == "edit":
            self.sent(event, "b", "edited **well**", edit=self.sent(event, "a", "before"))
        elif text == "recall":
            self.sent(event, "b", recall=self.sent(event, "a", "recalled"))
        elif text == "react":
            self.sent(event, "a", react={"message_id": about, "emoji": "+1"})
            self.sent(event, "b", "reacted")
            self.sent(event, "c", react={"message_id": about, "emoji": ""})
        elif text == "long":
            self.sent(event, "a", "word " * 6000 + "end")
        elif text == "draft":
            where = {key: event[key] for key in ("instance", "chat_id", "thread_id")}
            for shown in ("one", "one two"):
                self.call("message.draft", key="a " + event["event_id"], text=shown, **where)
                time.sleep(1.5)
            self.sent(event, "a", "one two three")
        elif event["parts"]:
            part = event["parts"][0]
            found = self.call("file.fetch", instance=event["instance"], message_id=about, part=part)
            name = os.path.basename(found["path"])
            self.sent(event, "a", "the same", files=[{"kind": "file", "file": name, "title": "copy.txt"}])
        else:
            self.sent(event, "a", f"{event['chat_type']} {event['mention']} {event['quote']}: {text}", reply_to=about)
        self.send({"id": request["id"], "result": {}})

agent.Gateway = Actor
agent.main()
'''


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited for: {what}")


class Synapse:
    """A homeserver of its own, with a database in a file."""

    def __init__(self, place):
        self.place, self.port = place, free_port()
        plenty = {"per_second": 10_000, "burst_count": 10_000}
        config = {
            "server_name": "localhost",
            "pid_file": str(place / "pid"),
            "listeners": [{"port": self.port, "type": "http", "bind_addresses": ["127.0.0.1"],
                           "resources": [{"names": ["client"], "compress": False}]}],
            "database": {"name": "sqlite3", "args": {"database": str(place / "database")}},
            "media_store_path": str(place / "media"),
            "signing_key_path": str(place / "key"),
            "registration_shared_secret": "shared",
            "report_stats": False,
            "trusted_key_servers": [],
            "rc_message": plenty,
            "rc_registration": plenty,
            "rc_login": {"address": plenty, "account": plenty},
            "rc_invites": {"per_room": plenty, "per_user": plenty, "per_issuer": plenty},
            "rc_joins": {"local": plenty},
            "rc_room_creation": plenty,
        }
        (place / "homeserver.yaml").write_text(json.dumps(config))
        self.command = [sys.executable, "-m", "synapse.app.homeserver", "--config-path", str(place / "homeserver.yaml")]
        subprocess.run([*self.command, "--generate-keys"], check=True, cwd=place)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        log = open(self.place / "synapse.log", "a")
        self.process = subprocess.Popen(self.command, cwd=self.place, stdout=log, stderr=log)
        until("the homeserver answers", self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5)
        except OSError:
            assert self.process.poll() is None, (self.place / "synapse.log").read_text()[-3000:]

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def user(self, name):
        path = "/_synapse/admin/v1/register"
        nonce = User(self.url, None).ask("GET", path)["nonce"]
        text = "\0".join([nonce, name, "password", "notadmin"])
        mac = hmac.new(b"shared", text.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": "password", "admin": False, "mac": mac}
        return User(self.url, User(self.url, None).ask("POST", path, body)["access_token"], f"@{name}:localhost")


class User:
    """Somebody who speaks to the bot."""

    def __init__(self, url, token, name=None):
        self.url, self.token, self.name, self.said = url, token, name, 0

    def ask(self, method, path, body=None, raw=False):
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read() if raw else json.loads(answer.read())

    def room(self, invite, **more):
        body = {"invite": [invite], "preset": "private_chat", **more}
        room = self.ask("POST", "/_matrix/client/v3/createRoom", body)["room_id"]
        path = f"/_matrix/client/v3/rooms/{room}/joined_members"
        until("the invitation is accepted", lambda: invite in self.ask("GET", path)["joined"])
        return room

    def put(self, room, kind, content):
        self.said += 1
        path = f"/_matrix/client/v3/rooms/{room}/send/{kind}/t{self.said}"
        return self.ask("PUT", path, content)["event_id"]

    def say(self, room, text, **more):
        return self.put(room, "m.room.message", {"msgtype": "m.text", "body": text, **more})

    def events(self, room):
        """All that was said in a room, in order."""
        events, at = [], ""
        while True:
            page = self.ask("GET", f"/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=500{at}")
            events += page["chunk"]
            if "end" not in page:
                return events
            at = f"&from={page['end']}"

    def heard(self, room, bot):
        messages = [it for it in self.events(room) if it["sender"] == bot and it["type"] == "m.room.message"]
        return [it["content"] for it in messages if it["content"]]

    def wait(self, room, bot, text):
        """The content of the bot's message that says this."""
        return until(f"the bot says {text!r} in {self.heard(room, bot)[-3:]}", lambda: next(
            (it for it in self.heard(room, bot) if it["body"] == text), None))


class Bench:
    def __init__(self, place):
        self.place, self.supervisor = place, None
        self.synapse = Synapse(place)

    def begin(self):
        place = self.place
        self.synapse.start()
        self.bot, self.ann, self.bob = (self.synapse.user(name) for name in ("bot", "ann", "bob"))
        (place / "token").write_text(self.bot.token)
        (place / "actor.py").write_text(ACTOR)
        self.config()
        self.start()

    def config(self, rest=""):
        command = [sys.executable, str(ROOT / "docs/matrix.py")]
        (self.place / "gw.toml").write_text(
            f"[platform.matrix]\nkind = \"exec\"\ncommand = {json.dumps(command)}\n{rest}"
            f"settings = {{ homeserver = \"{self.synapse.url}\" }}\nsecrets = {{ token_file = \"token\" }}\n"
            "access = { direct = \"open\", groups = \"all\" }\n"
            f"[agent.actor]\nkind = \"exec\"\ncommand = {json.dumps([sys.executable, 'actor.py', str(ROOT / 'docs')])}\n"
        )

    def gateway(self, *words):
        where = ["--config", str(self.place / "gw.toml"), "--state-dir", str(self.place / "s")]
        return [GATEWAY, *where, *words]

    def start(self):
        log = open(self.place / "gateway.log", "a")
        self.supervisor = subprocess.Popen(self.gateway("supervise"), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until("the platform is ready", lambda: self.status().get("outside") in ("up", "limited"))

    def status(self, name="matrix"):
        told = subprocess.run(self.gateway("ctl", "status", "--json"), capture_output=True, text=True)
        if told.returncode:
            return {}
        return next(it for it in json.loads(told.stdout)["instances"] if it["name"] == name)

    def kill(self):
        self.supervisor.kill()
        self.supervisor.wait()

    def end(self):
        if self.supervisor:
            self.supervisor.terminate()
            try:
                self.supervisor.wait(8)
            except subprocess.TimeoutExpired:
                self.kill()
        self.synapse.end()

    # The checks, in their order.

    def a_message_in_a_direct_room_is_answered(self):
        self.home = self.ann.room(self.bot.name)
        asked = self.ann.say(self.home, "hello <&>")
        answer = self.ann.wait(self.home, self.bot.name, "direct none None: hello <&>")
        assert answer["m.relates_to"]["m.in_reply_to"]["event_id"] == asked, answer
        assert answer["formatted_body"] == "direct none None: hello &lt;&amp;&gt;", answer
        assert self.status()["account"] == self.bot.name

    def a_message_of_a_group_comes_with_its_mention_and_in_its_thread(self):
        group = self.ann.room(self.bot.name, name="the group")
        self.ann.ask("POST", f"/_matrix/client/v3/rooms/{group}/invite", {"user_id": self.bob.name})
        self.bob.ask("POST", f"/_matrix/client/v3/join/{group}", {})
        root = self.bob.say(group, "to all")
        self.ann.wait(group, self.bot.name, "group none None: to all")
        relation = {"rel_type": "m.thread", "event_id": root, "is_falling_back": True,
                    "m.in_reply_to": {"event_id": root}}
        self.bob.say(group, "you there", **{"m.mentions": {"user_ids": [self.bot.name]}, "m.relates_to": relation})
        answer = self.ann.wait(group, self.bot.name, "group me None: you there")
        assert answer["m.relates_to"]["event_id"] == root, answer
        mine = next(it for it in self.ann.events(group) if it["content"].get("body") == "group me None: you there")
        answered = {"m.relates_to": {"m.in_reply_to": {"event_id": mine["event_id"]}}}
        self.bob.say(group, "> <@x> quoted\n\nand?", **answered)
        self.ann.wait(group, self.bot.name, "group me group me None: you there: and?")

    def edits_recalls_and_reactions_go_both_ways(self):
        for text in ("edit", "recall", "react"):
            self.ann.say(self.home, text)
        self.ann.wait(self.home, self.bot.name, "reacted")
        edited = until("an edit", lambda: next(
            (it for it in self.ann.heard(self.home, self.bot.name) if "m.new_content" in it), None))
        assert edited["m.new_content"]["formatted_body"] == "edited <strong>well</strong>", edited
        gone = lambda kind: any(it["type"] == kind and it["sender"] == self.bot.name and not it["content"]
                                for it in self.ann.events(self.home))
        until("a message is taken back", lambda: gone("m.room.message"))
        until("a reaction is taken back", lambda: gone("m.reaction"))
        said = self.ann.say(self.home, "mine")
        new = {"msgtype": "m.text", "body": "mine, better"}
        relation = {"rel_type": "m.replace", "event_id": said}
        self.ann.say(self.home, "* mine, better", **{"m.new_content": new, "m.relates_to": relation})
        self.ann.wait(self.home, self.bot.name, f"edit {said}: mine, better")
        self.ann.put(self.home, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "!"}})
        self.ann.wait(self.home, self.bot.name, f"reaction {said}: !")
        self.ann.ask("PUT", f"/_matrix/client/v3/rooms/{self.home}/redact/{urllib.parse.quote(said)}/r1", {})
        self.ann.wait(self.home, self.bot.name, f"recall {said}: ")

    def files_go_both_ways(self):
        data = os.urandom(300_000)
        url = self.ann.ask("POST", "/_matrix/media/v3/upload?filename=a%20file.txt", data)["content_uri"]
        self.ann.put(self.home, "m.room.message", {"msgtype": "m.file", "body": "a file.txt", "url": url})
        self.ann.wait(self.home, self.bot.name, "the same")
        copy = self.ann.wait(self.home, self.bot.name, "copy.txt")
        place = copy["url"].removeprefix("mxc://")
        assert self.ann.ask("GET", f"/_matrix/client/v1/media/download/{place}", raw=True) == data

    def a_long_reply_comes_in_parts(self):
        self.ann.say(self.home, "long")
        whole = "word " * 6000 + "end"
        said = lambda: "".join(it["body"] for it in self.ann.heard(self.home, self.bot.name) if "word" in it["body"])
        until("all of it", lambda: said() == whole)

    def a_draft_becomes_the_reply(self):
        self.ann.say(self.home, "draft")
        self.ann.wait(self.home, self.bot.name, "* one two three")
        own = [it for it in self.ann.heard(self.home, self.bot.name) if it["body"].strip("* ").startswith("one")]
        assert [it for it in own if "m.relates_to" not in it] == own[:1], own

    def an_encrypted_room_is_told_of(self):
        secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "s"}
        self.ann.put(self.home, "m.room.encrypted", secret)
        told = until("it is told", lambda: (it := self.status()).get("outside") == "limited" and it)
        assert self.home in told["reason"], told

    def nothing_that_is_said_while_the_gateway_is_away_is_lost(self):
        """More than one /sync brings."""
        room = self.ann.room(self.bot.name)
        self.ann.say(room, "before")
        self.ann.wait(room, self.bot.name, "direct none None: before")
        self.kill()
        for n in range(150):
            self.ann.say(room, f"away {n}")
        self.start()
        self.expect(room, [f"away {n}" for n in range(150)], 1)

    def expect(self, room, texts, before):
        behind = "behind all of it"
        wanted = [f"direct none None: {text}" for text in [*texts, behind]]
        heard = lambda: [it["body"] for it in self.ann.heard(room, self.bot.name)][before:]
        until("all answers", lambda: len(heard()) >= len(texts))
        # What came twice stands in front of that.
        self.ann.say(room, behind)
        self.ann.wait(room, self.bot.name, wanted[-1])
        assert heard() == wanted, heard()

    def whoever_is_killed_no_message_is_lost_and_none_is_answered_twice(self):
        room = self.ann.room(self.bot.name)
        for n in range(120):
            self.ann.say(room, f"load {n}")
            if n % 20 == 10:
                worker = self.status().get("pid")
                children = pathlib.Path(f"/proc/{worker}/task/{worker}/children").read_text().split() if worker else []
                victim = [worker, *children][n // 20 % 2 :][:1]
                if n // 20 % 3 == 2:
                    self.kill()
                    self.start()
                elif victim and victim[0]:
                    os.kill(int(victim[0]), signal.SIGKILL)
        self.expect(room, [f"load {n}" for n in range(120)], 0)

    def a_homeserver_that_is_away_is_told_of_and_awaited(self):
        self.synapse.end()
        until("it is told", lambda: self.status().get("outside") == "down")
        self.synapse.start()
        until("it is heard again", lambda: self.status().get("outside") in ("up", "limited"))
        self.ann.say(self.home, "back")
        self.ann.wait(self.home, self.bot.name, "direct none None: back")

    def a_token_that_is_refused_is_for_a_person(self):
        self.bot.ask("POST", "/_matrix/client/v3/logout", {})
        held = until("it is held", lambda: (it := self.status()).get("phase") == "held" and it)
        assert "77" in held["exits"][0]["cause"], held


CHECKS = [name for name in vars(Bench) if "_" in name and not name.startswith("__")]


def main():
    # Whoever stops this program stops the ones that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="gwm") as place:
        bench = Bench(pathlib.Path(place))
        try:
            bench.begin()
            for check in CHECKS:
                text = check.replace("_", " ")
                try:
                    getattr(bench, check)()
                    print(f"ok   {text}", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"FAIL {text}\n  {type(error).__name__}: {error}", flush=True)
            if failed:
                print((bench.place / "gateway.log").read_text()[-6000:])
        finally:
            bench.end()
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
