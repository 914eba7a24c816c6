"""The simulated platforms between which a stock Hermes Agent is judged: how each is configured, spoken at and read.

Of the five chats three are direct, one is a group in which two people speak, and one is a topic of a group, in which two people
speak as well.
"""

import base64
import json
import time

import check

DIRECT, GROUP, TOPIC = (0, 1, 2), 3, 4


def people(chat):
    return (0,) if chat in DIRECT else (0, 1)


class Platform:
    """What both have."""

    def end(self):
        self.sim.end()

    def ask(self, did=None, **command):
        start = len(self.sim.lines)
        self.sim.tell(**command)
        return self.sim.wait(check.SOON, start=start, did=did or command["do"])


class Feishu(Platform):
    name, bot = "feishu", {"botId": "cli_hermes"}
    app = ("cli_hermes", "secret", "ou_bot")

    def __init__(self, directory, simulators):
        self.sim = check.Process([f"{simulators}/sim-feishu", "--app", ":".join(self.app), "--repush-scale", "0.02"])
        self.base = self.sim.wait(check.SOON, seen="listening")["base_url"]
        self.pushed, self.opened = [], 0
        (directory / "secret").write_text(self.app[1])

    def config(self):
        return f"""
            [platform.feishu]
            app_id = "{self.app[0]}"
            app_secret_file = "secret"
            base_url = "{self.base}"
            access = {{ direct = "open", groups = "all", chats = ["oc_{GROUP}", "oc_{TOPIC}"] }}
        """

    def wait_connected(self, _status):
        self.opened += 1
        self.sim.wait_count(check.SOON, self.opened, seen="opened")

    def leave(self):
        """The gateway's connection is over and another one will be made."""
        self.opened = self.sim.count(seen="opened")

    def user(self, chat, person):
        return f"ou_{chat}{person if chat not in DIRECT else ''}"

    def push(self, chat, person, text):
        more = {"group": True} if chat not in DIRECT else {}
        if chat == TOPIC:
            more["thread"] = "omt_7"
        event = self.ask("push", do="push_text", chat=f"oc_{chat}", sender=self.user(chat, person), text=text, **more)
        self.pushed.append(event["event_id"])

    def push_picture(self, png, text):
        self.ask(do="put_resource", key="img_1", kind="image", base64=base64.b64encode(png).decode())
        event = self.ask("push", do="push_text", chat="oc_0", sender="ou_0", text=text, picture="img_1")
        self.pushed.append(event["event_id"])

    def acknowledged(self):
        for event_id in self.pushed:
            self.sim.wait(check.SOON, seen="answered", event_id=event_id, code=200)

    def shown(self):
        """What people see by now: the number of the chat, and the text."""
        messages = self.ask(do="sent")["messages"]
        return [(int(it["receive_id"].removeprefix("oc_")), it["shown"].strip()) for it in messages]

    def sources(self):
        """The members of Hermes's `SessionSource` that its own adapter would fill in."""
        for chat in range(5):
            for person in people(chat):
                user = self.user(chat, person)
                # The simulated platform's way to make a union_id.
                source = {"chat_id": f"oc_{chat}", "user_id": user, "user_id_alt": f"on_of_{user}",
                          "chat_type": "dm" if chat in DIRECT else "group"}
                yield {**source, "thread_id": "omt_7"} if chat == TOPIC else source


class Telegram(Platform):
    name, bot = "telegram", {"botId": "7700", "username": "test_bot"}
    token = "7700:s3cret-Token_of-a-b0t"

    def __init__(self, directory, simulators):
        self.sim = check.Process([f"{simulators}/sim-telegram", "--bot", f"{self.token}=test_bot"])
        self.base = self.sim.wait(check.SOON, seen="listening")["base_url"]
        self.ask(do="forum", chat=self.chat(TOPIC), topics=[7])
        (directory / "secret").write_text(self.token)

    def config(self):
        return f"""
            [platform.telegram]
            token_file = "secret"
            base_url = "{self.base}"
            access = {{ direct = "open", groups = "all", chats = [{self.chat(GROUP)}, {self.chat(TOPIC)}] }}
        """

    def wait_connected(self, status):
        status("telegram", "connected", lambda it: it["connected"])

    def leave(self):
        pass

    def chat(self, chat):
        return 1000 + chat if chat in DIRECT else -(1000 + chat)

    def user(self, chat, person):
        return self.chat(chat) if chat in DIRECT else 2000 + 10 * chat + person

    def place(self, chat, person):
        if chat in DIRECT:
            return {"user": self.user(chat, person)}
        more = {"topic": 7} if chat == TOPIC else {}
        return {"user": self.user(chat, person), "chat": self.chat(chat), **more}

    def push(self, chat, person, text):
        self.ask(do="push_text", text=text, **self.place(chat, person))

    def push_picture(self, png, text):
        self.ask(do="file", id="photo1", base64=base64.b64encode(png).decode())
        user = self.chat(0)
        self.ask(do="push", update={"message": {
            "message_id": 900001, "date": int(time.time()), "caption": text,
            "chat": {"id": user, "type": "private", "first_name": "Ann"},
            "from": {"id": user, "is_bot": False, "first_name": "Ann"},
            "photo": [{"file_id": "photo1", "file_unique_id": "u1", "width": 8, "height": 8, "file_size": len(png)}],
        }})

    def acknowledged(self):
        """Every update is confirmed."""
        for _ in range(600):
            if self.ask(do="pending")["updates"] == 0:
                return
            time.sleep(0.05)
        raise AssertionError("updates that are not confirmed")

    def shown(self):
        messages = {}
        with self.sim.grown:
            lines = list(self.sim.lines)
        for line in lines:
            key = (line.get("chat_id"), line.get("message_id"))
            match line.get("seen"):
                case "sent" | "edited":
                    messages[key] = line["text"].strip()
                case "deleted":
                    messages.pop(key, None)
        chats = {self.chat(chat): chat for chat in range(5)}
        return [(chats[chat], text) for (chat, _), text in messages.items()]

    def sources(self):
        for chat in range(5):
            for person in people(chat):
                source = {"chat_id": str(self.chat(chat)), "user_id": str(self.user(chat, person)),
                          "chat_type": "dm" if chat in DIRECT else "group"}
                yield {**source, "thread_id": "7"} if chat == TOPIC else source


PLATFORMS = {"feishu": Feishu, "telegram": Telegram}


def as_lines(sources):
    return "\n".join(json.dumps(it) for it in sources)
