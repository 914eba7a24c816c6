"""Lets client libraries drive the simulated Telegram and prints `ok` or `FAIL` for each check.

Usage: check.py SIM_TELEGRAM NAME JUDGE... -- NAME JUDGE...

Each JUDGE is a command that takes BASE_URL TOKEN. The library judges the simulator: what it cannot talk with is wrong.
"""

import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import checks  # noqa: E402
from process import Process  # noqa: E402

TOKEN = "7700:AAh4-judge_token-of-35-characters-xx"
USER = 9
GROUP = -1001234567890
# Libraries in Python need many seconds to be imported on a small machine.
START = 90
SOON = 30


class Bench:
    """One library and one platform, and the checks in their order."""

    def __init__(self, simulator, name, judge):
        self.name, self.judge_command = name, judge
        self.sim = Process([simulator, "--bot", f"{TOKEN}=judge_bot"])
        self.base_url = self.sim.wait(SOON, seen="listening")["base_url"]
        self.tasks = 0
        self.ask(do="mood", chat=USER, mood="open")
        self.judge = self.start_judge(TOKEN)

    def start_judge(self, token):
        return Process([*self.judge_command, self.base_url, token])

    def end(self):
        self.judge.end()
        self.sim.end()

    def ask(self, **command):
        start = len(self.sim.lines)
        self.sim.tell(**command)
        return self.sim.wait(SOON, start=start, did=command["do"])

    def heard(self, text, **more):
        """Pushes a text and waits until the library has understood and the platform forgotten it."""
        pushed = self.ask(do="push_text", user=USER, text=text, **more)
        message = self.judge.wait(SOON, said="message", message_id=pushed["message_id"])
        return pushed, message

    def confirmed(self, update_id):
        # Only the newest one need be asked for: an offset confirms all below it.
        self.sim.wait(SOON, seen="confirmed", ids=[update_id])

    def task(self, **task):
        """Lets the library do something; returns what it made of the answer."""
        self.tasks += 1
        name = f"task {self.tasks}"
        start = len(self.judge.lines)
        self.heard(json.dumps({"name": name, "chat": USER, **task}))
        return self.judge.wait(SOON, start=start, said="answer", task=name)

    # The checks. Each leaves the library polling for the next one.

    def polls(self):
        self.sim.wait(START, seen="poll")

    def receives_a_text_and_confirms_it(self):
        pushed, message = self.heard("你好 😀")
        assert (message["text"], message["chat_id"], message["user_id"]) == ("你好 😀", USER, USER), message
        self.confirmed(pushed["update_id"])

    def reads_a_topic(self):
        self.ask(do="forum", chat=GROUP, topics=[7])
        _, message = self.heard("in a topic", chat=GROUP, topic=7)
        assert (message["chat_id"], message["thread_id"]) == (GROUP, 7), message

    def takes_a_pressed_button(self):
        message = {"message_id": 1, "date": 1700000000, "chat": {"id": USER, "type": "private", "first_name": "Ann"},
                   "text": "press"}
        query = {"id": "77", "from": {"id": USER, "is_bot": False, "first_name": "Ann"}, "chat_instance": "5",
                 "data": "yes", "message": message}
        self.ask(do="push", update={"callback_query": query})
        assert self.judge.wait(SOON, said="button")["data"] == "yes"
        self.sim.wait(SOON, seen="call", method="answercallbackquery", status=200)

    def sends_styles_a_reply_and_a_topic(self):
        pushed, _ = self.heard("answer me")
        entities = [{"type": "bold", "offset": 3, "length": 2}, {"type": "text_link", "offset": 0, "length": 2,
                                                                 "url": "https://example.org/"}]
        answer = self.task(do="send", text="😀 你好", entities=entities, reply_to=pushed["message_id"])
        sent = self.sim.wait(SOON, seen="sent", message_id=answer["message_id"])
        assert sent["text"] == "😀 你好" and sent["reply_to"] == pushed["message_id"], sent
        places = [sorted((it["type"], it["offset"], it["length"]) for it in each)
                  for each in (sent["entities"], entities)]
        assert places[0] == places[1], sent
        answer = self.task(do="send", text="there", chat=GROUP, thread=7)
        assert self.sim.wait(SOON, seen="sent", message_id=answer["message_id"])["thread_id"] == 7

    def sends_files_albums_and_buttons(self):
        photo = self.task(do="photo", text="see 😀")
        sent = self.sim.wait(SOON, seen="sent", message_id=photo["message_id"])
        assert (sent["kind"], sent["text"], sent["file"]["size"]) == ("photo", "see 😀", 3), sent
        assert sent["buttons"] == [[{"text": "Yes", "callback_data": "yes"}]], sent
        assert self.task(do="caption", message=photo["message_id"], text="seen")["code"] == 0
        document = self.task(do="document", text="")
        sent = self.sim.wait(SOON, seen="sent", message_id=document["message_id"])
        assert (sent["kind"], sent["file"]) == ("document", {"name": "b.pdf", "size": 4}), sent
        album = self.task(do="album", text="two")["message_id"]
        first, second = (self.sim.wait(SOON, seen="sent", message_id=album + n) for n in (0, 1))
        assert first["album"] and first["album"] == second["album"], (first, second)
        assert [first["text"], second["text"], first["file"]["size"]] == ["two", "", 2], (first, second)

    def deletes_reacts_and_shows_that_it_works(self):
        pushed, _ = self.heard("react to me")
        assert self.task(do="react", message=pushed["message_id"], text="👍")["result"] is True
        self.sim.wait(SOON, seen="reacted", message_id=pushed["message_id"], faces=["👍"])
        assert self.task(do="action")["result"] is True
        self.sim.wait(SOON, seen="action", chat_id=USER, action="typing")
        sent = self.task(do="send", text="going")
        assert self.task(do="delete", message=sent["message_id"])["result"] is True
        gone = self.task(do="edit", message=sent["message_id"], text="gone")
        assert gone["code"] == 400 and "to edit not found" in gone["error"], gone

    def fetches_files(self):
        self.ask(do="file", id="f1", size=1000)
        assert self.task(do="download", text="f1")["result"] == 1000
        wrong = self.task(do="download", text="nobody")
        assert wrong["code"] == 400 and "file_id" in wrong["error"], wrong

    def edits(self):
        sent = self.task(do="send", text="before")
        assert self.task(do="edit", message=sent["message_id"], text="after")["code"] == 0
        again = self.task(do="edit", message=sent["message_id"], text="after")
        assert again["code"] == 400 and "not modified" in again["error"], again

    def understands_refusals(self):
        gone = self.task(do="send", text="x", reply_to=4, strict=True)
        assert gone["code"] == 400 and "replied not found" in gone["error"], gone
        long = self.task(do="send", text="x" * 4097)
        assert long["code"] == 400 and "too long" in long["error"], long
        self.ask(do="mood", chat=55, mood="blocked")
        blocked = self.task(do="send", text="x", chat=55)
        assert blocked["code"] == 403 and "blocked" in blocked["error"], blocked
        self.ask(do="mood", chat=-56, to=GROUP)
        moved = self.task(do="send", text="x", chat=-56)
        assert moved["moved"] == GROUP, moved

    def understands_a_limit(self):
        self.ask(do="fault", method="sendMessage", fault={"kind": "rate_limit", "seconds": 1}, times=1)
        limited = self.task(do="send", text="x")
        assert limited["code"] == 429 and limited["retry_after"] == 1, limited

    def comes_back_from_pages_and_cut_lines(self):
        for n, fault in enumerate([{"kind": "html", "status": 502}, {"kind": "lost_answer"}]):
            self.ask(do="fault", method="getUpdates", fault=fault, times=1)
            self.heard(f"after fault {n}")
        self.ask(do="reset")
        self.heard("after a reset")

    def breaks_no_rule(self):
        # One message was too long on purpose.
        broken = [it for it in self.ask(do="violations")["violations"] if it[0] != "length"]
        assert not broken, broken

    def is_told_of_a_conflict(self):
        fault = {"kind": "refuse", "code": 409, "description":
                 "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"}
        self.ask(do="fault", method="getUpdates", fault=fault, times=2)
        self.ask(do="push_text", user=USER, text="wake up")
        line = self.judge.wait(SOON, said="conflict")
        assert "terminated by other getUpdates" in line["error"], line

    def hears_by_a_webhook(self):
        self.judge.end()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ["WEBHOOK"] = str(port)
        try:
            self.judge = self.start_judge(TOKEN)
            self.sim.wait(START, seen="call", method="setwebhook", status=200)
            pushed, message = self.heard("by a webhook")
            self.confirmed(pushed["update_id"])
            self.sim.wait(SOON, seen="posted", id=pushed["update_id"], status=200)
            assert message["text"] == "by a webhook", message
        finally:
            del os.environ["WEBHOOK"]

    def is_refused_with_a_wrong_token(self):
        other = self.start_judge("7701:AAh4-wrong_token-of-35-characters-xx")
        try:
            line = other.wait(START, said="gave up")
            assert any(word in line["error"].lower() for word in ("unauthorized", "invalid")), line
        finally:
            other.end()


CHECKS = [
    "polls",
    "receives_a_text_and_confirms_it",
    "reads_a_topic",
    "takes_a_pressed_button",
    "sends_styles_a_reply_and_a_topic",
    "sends_files_albums_and_buttons",
    "deletes_reacts_and_shows_that_it_works",
    "fetches_files",
    "edits",
    "understands_refusals",
    "understands_a_limit",
    "comes_back_from_pages_and_cut_lines",
    "breaks_no_rule",
    "is_told_of_a_conflict",
    "hears_by_a_webhook",
    "is_refused_with_a_wrong_token",
]


if __name__ == "__main__":
    sys.exit(checks.run(Bench, CHECKS))
