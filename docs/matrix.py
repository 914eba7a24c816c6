#!/usr/bin/env python3
"""A complete platform for hermes-gw: Matrix, by the client-server API. Needs nothing but Python's standard library.

    [platform.matrix]
    kind = "exec"
    command = ["python3", "matrix.py"]
    settings = { homeserver = "https://example.org" }    # join = false: invitations are left alone
    secrets = { token_file = "matrix-token" }            # the access token of the bot's account
    access = { direct = "pairing", groups = "mention" }

It hears rooms that are not encrypted. What matters for a platform of your own:

* The platform is acknowledged only when the gateway says that an event is durable. Here that is the `since` of the
  next /sync: it is kept by the gateway, after everything before it was told, and comes back after a restart.
  Whose it is is kept with it: the same block may get the token of another account.
* `ready` is a lease, said when the *receiving* side has got on: after each /sync that has ended.
* A message has a key. Matrix takes a transaction id, by which it knows a repetition: so it is said with
  `idempotent_ms` how long, and what was interrupted may be sent again.
"""

import html
import http.client
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

SYNC_S = 30
LEASE_MS = 60_000
# Synapse remembers transaction ids longer than that.
IDEMPOTENT_MS = 30 * 60_000
# An event has 64 KiB at most, and an edit says its text three times.
TEXT_LIMIT = 12_000
KINDS = {"m.image": "image", "m.file": "file", "m.audio": "audio", "m.video": "video"}
NOT_NOW = -32001


class Refused(Exception):
    """The gateway refuses something."""

    def __init__(self, fault):
        super().__init__(fault.get("message"))
        self.code = fault.get("code")


class Failed(Exception):
    """Something cannot be done: for good, or (`after_ms`) not now."""

    def __init__(self, why, code=1, after_ms=None):
        super().__init__(why)
        self.code, self.after_ms = code, after_ms


class Gateway:
    """Requests from both sides, one JSON object a line."""

    def __init__(self, lines, out, answers):
        self.lines, self.out, self.answers = lines, out, answers
        self.writing = threading.Lock()
        self.waiting = {}
        self.last_id = 0
        self.at_work = set()
        threading.Thread(target=self.read, daemon=True).start()

    def write(self, message):
        line = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False) + "\n"
        with self.writing:
            # Half a character, as programs leave it that cut a text, stops nothing.
            self.out.write(line.encode(errors="replace"))
            self.out.flush()

    def call(self, method, **params):
        """Asks the gateway and waits for its answer."""
        answer = queue.Queue()
        with self.writing:
            self.last_id += 1
            name = self.last_id
            self.waiting[name] = answer
        self.write({"id": name, "method": method, "params": params})
        message = answer.get()
        if "error" in message:
            raise Refused(message["error"])
        return message["result"]

    def insist(self, method, **params):
        """The same, again and again while the gateway cannot take it."""
        while True:
            try:
                return self.call(method, **params)
            except Refused as refused:
                if refused.code != NOT_NOW:
                    raise
                time.sleep(1)

    def read(self):
        """Runs in a thread of its own. The end of the input is the end of the program."""
        for line in self.lines:
            message = json.loads(line)
            if "method" in message:
                answering = threading.Thread(target=self.answer, args=(message,), daemon=True)
                self.at_work.add(answering)
                answering.start()
            else:
                waiting = self.waiting.pop(message.get("id"), None)
                if waiting:
                    waiting.put(message)
        os.kill(os.getpid(), signal.SIGTERM)

    def answer(self, request):
        said = {}
        try:
            said = {"result": self.answers[request["method"]](request["params"]) or {}}
        except Failed as failed:
            data = {} if failed.after_ms is None else {"data": {"retry_after_ms": failed.after_ms}}
            said = {"error": {"code": failed.code, "message": str(failed), **data}}
        except Exception as problem:
            said = {"error": {"code": 1, "message": f"{type(problem).__name__}: {problem}"}}
        try:
            if "id" in request:
                self.write({"id": request["id"], **said})
        except OSError:
            pass
        self.at_work.discard(threading.current_thread())

    def finish(self):
        """What is under way is finished, if that does not take long."""
        until = time.monotonic() + 1.5
        while self.at_work and time.monotonic() < until:
            time.sleep(0.01)


class Homeserver:
    """HTTP, and what its faults mean."""

    def __init__(self, url, token):
        self.url, self.token = url.rstrip("/"), token

    def ask(self, method, path, body=None, query=None, kind="application/json", timeout=30):
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise fault(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the homeserver cannot be reached: {error}", NOT_NOW) from None

    def json(self, *arguments, **more):
        answer = self.ask(*arguments, **more)
        try:
            return json.loads(answer)
        except ValueError:
            raise Failed("the homeserver says what is no JSON", NOT_NOW) from None


def fault(error):
    """What an answer of HTTP means."""
    try:
        said = json.loads(error.read())
    except (OSError, ValueError):
        said = {}
    why = f"{said.get('errcode', '')} {said.get('error', error)}".strip()
    if said.get("errcode") == "M_UNKNOWN_TOKEN":
        # The exit code that says: a person must give it another one.
        print(f"the homeserver refuses the token: {why}", file=sys.stderr, flush=True)
        os._exit(77)
    if error.code == 429:
        return Failed(why, NOT_NOW, after_ms=said.get("retry_after_ms", 5000))
    return Failed(why, NOT_NOW if error.code >= 500 else error.code)


def quote(text):
    return urllib.parse.quote(text, safe="")


class Matrix:
    """The bot's account."""

    def __init__(self):
        answers = {
            "message.send": self.send,
            "message.draft": self.draft,
            "file.fetch": self.fetch,
            "busy": self.busy,
        }
        self.gateway = Gateway(sys.stdin.buffer, sys.stdout.buffer, answers)
        # What else prints must not get between the lines.
        sys.stdout = sys.stderr
        told = self.gateway.call(
            "initialize",
            protocol=1,
            name="matrix.py",
            text_limit=TEXT_LIMIT,
            text_unit="bytes",
            can=["edit", "recall", "react", "files", "drafts", "busy", "fetch"],
            idempotent_ms=IDEMPOTENT_MS,
        )
        self.cursor, self.exchange = told["cursor"] or {}, told["exchange"]
        self.since = None
        self.joins = told["settings"].get("join", True)
        self.invitations = queue.Queue()
        threading.Thread(target=self.join, daemon=True).start()
        self.server = Homeserver(told["settings"]["homeserver"], told["secrets"]["token"])
        self.me = None
        self.rooms = {}
        self.encrypted = set()

    def room(self, room_id, what):
        return f"/_matrix/client/v3/rooms/{quote(room_id)}/{what}"

    # What is heard.

    def serve(self):
        vain = 0
        while True:
            try:
                self.hear()
                vain = 0
            except Failed as failed:
                vain = min(vain + 1, 5)
                self.pause(str(failed), (failed.after_ms or 500 * 2**vain) / 1000)

    def pause(self, why, seconds):
        """What the platform wants may be long: that the program is there is said meanwhile, too."""
        until = time.monotonic() + seconds
        while seconds > 0:
            self.gateway.call("down", reason=why, lease_ms=LEASE_MS)
            time.sleep(min(seconds, LEASE_MS / 2000))
            seconds = until - time.monotonic()

    def hear(self):
        """One /sync, and everything that it brings. Nothing is kept of one that was interrupted: it comes again."""
        if self.me is None:
            self.me = self.server.json("GET", "/_matrix/client/v3/account/whoami")["user_id"]
            # What another account has heard says nothing of this one.
            self.since = self.cursor.get("since") if self.cursor.get("of") == self.me else None
        first = self.since is None
        query = {"filter": json.dumps(filter_of(1 if first else 100))}
        # The first one tells where the present is; what was said before is not for us.
        query |= {"timeout": 0} if first else {"timeout": SYNC_S * 1000, "since": self.since}
        path = "/_matrix/client/v3/sync"
        try:
            sync = self.server.json("GET", path, query=query, timeout=SYNC_S + 10)
        except Failed as failed:
            if first or failed.code != 400:
                raise
            why = f"the homeserver has forgotten where we were, and it goes on from now: {failed}"
            print(why, file=sys.stderr)
            self.since = None
            return
        rooms = sync.get("rooms", {})
        for room_id in rooms.get("invite", {}) if self.joins else ():
            self.invitations.put((room_id, 1))
        self.ready()
        for room_id, room in rooms.get("join", {}).items() if not first else ():
            for event in self.timeline(room_id, room["timeline"]):
                self.tell(room_id, event)
        if self.since != sync["next_batch"]:
            cursor = {"of": self.me, "since": sync["next_batch"]}
            self.gateway.insist("cursor.keep", cursor=cursor)
            self.since = sync["next_batch"]
        self.ready()

    def tell(self, room_id, event):
        """Tells an event. What nobody understands is left out: whoever ends by it meets it again after the start."""
        try:
            told = self.told(room_id, event)
            if told:
                self.gateway.insist("event.deliver", **told)
        except Failed:
            raise
        except Exception as problem:
            why = type(problem).__name__
            print(f"{event['event_id']} in {room_id} is left out: {why}", file=sys.stderr)

    def ready(self):
        doubt = {}
        if self.encrypted:
            rooms = ", ".join(sorted(self.encrypted))
            doubt["reason"] = f"what is said in encrypted rooms cannot be read: {rooms}"
            doubt["remedy"] = "talk to the bot in a room that is not encrypted"
        self.gateway.call("ready", lease_ms=LEASE_MS, account=self.me, **doubt)

    def join(self):
        """Runs in a thread of its own: a room may be far away, and nobody else is to wait for it."""
        while True:
            room_id, attempt = self.invitations.get()
            try:
                self.server.json("POST", f"/_matrix/client/v3/join/{quote(room_id)}", {})
            except Failed as failed:
                print(f"cannot join {room_id}: {failed}", file=sys.stderr)
                if failed.code == NOT_NOW and attempt < 5:
                    time.sleep(min(failed.after_ms or 1000, 30_000) / 1000)
                    self.invitations.put((room_id, attempt + 1))

    def timeline(self, room_id, timeline):
        """All events since the last time: of a busy room, /sync brings the last ones alone."""
        events, at = list(timeline["events"]), timeline.get("prev_batch")
        while timeline.get("limited") and at:
            query = {"dir": "b", "from": at, "to": self.since, "limit": 100}
            page = self.server.json("GET", self.room(room_id, "messages"), query=query)
            events[:0] = reversed(page["chunk"])
            at = page.get("end") if page["chunk"] else None
        return events

    def told(self, room_id, event):
        """An event as the gateway wants it; None: it is of no use there."""
        content, kind = event.get("content", {}), event["type"]
        if kind == "m.room.member":
            self.rooms.pop(room_id, None)
        if kind == "m.room.encrypted":
            self.encrypted.add(room_id)
        if event["sender"] == self.me:
            return None
        relation = content.get("m.relates_to") or {}
        about = relation.get("event_id")
        if kind == "m.room.redaction":
            own = {"kind": "recall", "message_id": event.get("redacts") or content.get("redacts")}
        elif kind == "m.reaction":
            own = {"kind": "reaction", "message_id": about, "text": relation.get("key", "")}
        elif kind in ("m.room.message", "m.sticker") and "body" in content:
            if relation.get("rel_type") == "m.replace":
                own = {"kind": "edit", "message_id": about}
                content = content.get("m.new_content", content)
            else:
                own = {"kind": "message", "message_id": event["event_id"]}
                if relation.get("rel_type") == "m.thread":
                    own["thread_id"] = about
            own |= self.said(room_id, content, relation)
        else:
            return None
        members, name = self.about(room_id)
        return {
            "key": event["event_id"],
            "chat_id": room_id,
            "chat_type": "direct" if len(members) == 2 else "group",
            "chat_name": name,
            "user_id": event["sender"],
            "user_name": members.get(event["sender"]),
            "origin_ms": event["origin_server_ts"],
            **own,
        }

    def said(self, room_id, content, relation):
        """What a message says, whom it addresses and what it answers."""
        text, mentions = content["body"], content.get("m.mentions") or {}
        own = {"mention": "none"}
        answers = (relation.get("m.in_reply_to") or {}).get("event_id")
        if answers and not relation.get("is_falling_back"):
            own["reply_to"] = answers
            # Older clients say first what they answer.
            text = re.sub(r"\A(> .*\n)+\n", "", text)
            try:
                answered = self.server.json("GET", self.room(room_id, f"event/{quote(answers)}"))
                own["quote"] = answered["content"].get("body")
                if answered["sender"] == self.me:
                    own["mention"] = "me"
            except Failed:
                pass
        name = self.about(room_id)[0].get(self.me) or self.me
        if self.me in mentions.get("user_ids", []) or self.me in text or name in text:
            own["mention"] = "me"
        elif mentions.get("room"):
            own["mention"] = "all"
        elif mentions.get("user_ids"):
            own["mention"] = "other"
        if content.get("url"):
            info, title = content.get("info", {}), content.get("filename", text)
            part = {"kind": KINDS.get(content.get("msgtype"), "sticker"), "handle": content["url"]}
            part |= {"name": title, "size": info.get("size"), "mime": info.get("mimetype")}
            own["parts"] = [part]
            text = "" if text == title else text
        own["text"] = text
        return own

    def about(self, room_id):
        """Who is in a room, and what it is called."""
        if room_id not in self.rooms:
            path = self.room(room_id, "joined_members")
            joined = self.server.json("GET", path)["joined"]
            members = {user: member.get("display_name") for user, member in joined.items()}
            try:
                name = self.server.json("GET", self.room(room_id, "state/m.room.name"))["name"]
            except Failed:
                name = None
            self.rooms[room_id] = (members, name)
        return self.rooms[room_id]

    # What is said.

    def put(self, room_id, kind, content, key):
        path = self.room(room_id, f"send/{kind}/{quote(key)}")
        return self.server.json("PUT", path, content)["event_id"]

    def send(self, message):
        room_id, key = message["chat_id"], message["key"]
        if "recall" in message:
            path = self.room(room_id, f"redact/{quote(message['recall'])}/{quote(key)}")
            self.server.json("PUT", path, {})
            return {"message_ids": []}
        if "react" in message:
            return self.react(room_id, key, **message["react"])
        over = message.get("edit") or message.get("draft")
        ids = []
        if message["text"]:
            sent = self.put(room_id, "m.room.message", content_of(message, over), key)
            ids.append(over or sent)
        for number, file in enumerate(message.get("files", [])):
            content = self.upload(file) | relation_of(message)
            ids.append(self.put(room_id, "m.room.message", content, f"{key}-file-{number}"))
        return {"message_ids": ids}

    def react(self, room_id, key, message_id, emoji):
        if emoji:
            relation = {"rel_type": "m.annotation", "event_id": message_id, "key": emoji}
            self.put(room_id, "m.reaction", {"m.relates_to": relation}, key)
            return {"message_ids": []}
        path = f"/_matrix/client/v1/rooms/{quote(room_id)}/relations/{quote(message_id)}"
        for event in self.server.json("GET", f"{path}/m.annotation/m.reaction")["chunk"]:
            if event["sender"] == self.me:
                path = self.room(room_id, f"redact/{quote(event['event_id'])}/{quote(key)}")
                self.server.json("PUT", path, {})
        return {"message_ids": []}

    def draft(self, draft):
        shown = draft.get("message_id")
        content = content_of(draft, shown)
        sent = self.put(draft["chat_id"], "m.room.message", content, f"draft-{time.time_ns()}")
        return {"message_id": shown or sent}

    def busy(self, busy):
        path = self.room(busy["chat_id"], f"typing/{quote(self.me)}")
        body = {"typing": True, "timeout": 300_000} if busy["on"] else {"typing": False}
        self.server.json("PUT", path, body)

    def upload(self, file):
        title = file.get("title") or file["file"]
        with open(os.path.join(self.exchange, file["file"]), "rb") as source:
            data = source.read()
        kind = {"image": "m.image", "audio": "m.audio", "voice": "m.audio", "video": "m.video"}
        answer = self.server.json(
            "POST",
            "/_matrix/media/v3/upload",
            data,
            {"filename": title},
            kind="application/octet-stream",
            timeout=240,
        )
        info = {"size": len(data)}
        msgtype = kind.get(file["kind"], "m.file")
        return {"msgtype": msgtype, "body": title, "url": answer["content_uri"], "info": info}

    def fetch(self, wish):
        part = wish["part"]
        data = self.server.ask("GET", media(part["handle"]), timeout=240)
        plain = re.sub(r"[^\w.-]", "_", part.get("name") or "file")[-40:]
        name = f"matrix-{time.time_ns()}-{plain}"
        with open(os.path.join(self.exchange, name), "xb") as file:
            file.write(data)
        return {"file": name, "mime": part.get("mime")}


def filter_of(limit):
    """Nothing but what is said in rooms: who is there or writes would end each /sync."""
    nothing = {"not_types": ["*"]}
    room = {"timeline": {"limit": limit}, "ephemeral": nothing, "account_data": nothing}
    return {"room": room, "presence": nothing, "account_data": nothing}


def media(address):
    """Where a file is. Whoever sends one names it, and is to name nothing else that the bot may read."""
    found = re.fullmatch(r"mxc://([A-Za-z0-9\[][\w.:\[\]-]*)/([\w-]+)", address, re.A)
    if not found:
        raise Failed(f"{address!r} is no address of a file")
    return f"/_matrix/client/v1/media/download/{quote(found[1])}/{found[2]}"


def relation_of(message):
    """Which thread a message is in and what it answers."""
    relation = {}
    if message.get("thread_id"):
        relation = {"rel_type": "m.thread", "event_id": message["thread_id"]}
    if message.get("reply_to"):
        relation["m.in_reply_to"] = {"event_id": message["reply_to"]}
    return {"m.relates_to": relation} if relation else {}


def content_of(message, over):
    """The content of a message of text; `over` becomes it, if that is one."""
    text = message["text"]
    content = {"msgtype": "m.text", "body": text}
    content |= {"format": "org.matrix.custom.html", "formatted_body": formatted(text)}
    if over:
        relation = {"rel_type": "m.replace", "event_id": over}
        plain = {"msgtype": "m.text", "body": f"* {text}"}
        return {**plain, "m.new_content": content, "m.relates_to": relation}
    return content | relation_of(message)


def formatted(text):
    """The most usual Markdown as HTML."""
    parts = []
    for number, part in enumerate(re.split(r"^```.*\n([\s\S]*?)^```$", text, flags=re.M)):
        part = html.escape(part, quote=False)
        if number % 2:
            parts.append(f"<pre><code>{part}</code></pre>")
            continue
        part = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", part)
        part = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", part)
        part = re.sub(r"\[([^\]\n]+)\]\((https?://[^\s)\"]+)\)", r'<a href="\2">\1</a>', part)
        part = re.sub(r"^#+ (.*)$", r"<strong>\1</strong>", part, flags=re.M)
        parts.append(part.replace("\n", "<br>"))
    return "".join(parts)


def main():
    def leave(*_):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    code = 1
    try:
        matrix = Matrix()
        try:
            matrix.serve()
        finally:
            matrix.gateway.finish()
    except SystemExit:
        code = 0
    except Refused as refused:
        print(f"the gateway refuses what is told: {refused}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    # Not by sys.exit: Python aborts where a thread is still reading its input.
    os._exit(code)


if __name__ == "__main__":
    main()
