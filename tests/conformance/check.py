"""Drives an official SDK against the simulated platform and prints `ok` or `FAIL` for each check.

Usage: check.py SIM_FEISHU NAME JUDGE... -- NAME JUDGE...

Each JUDGE is a command that takes BASE_URL APP_ID APP_SECRET. The SDK judges the simulator: what it cannot talk with is
wrong.
"""

import base64
import json
import sys

import checks
from process import Process

# The SDK for Node wants an id as the platform makes them.
APP = ("cli_a1b2c3d4e5f60718", "a-secret", "ou_bot")
# The SDK for Python needs many seconds to be imported on a small machine.
START = 90
SOON = 20


class Bench:
    """One SDK and one platform, and the checks in their order."""

    def __init__(self, simulator, name, judge):
        self.name, self.judge_command = name, judge
        self.sim = Process([simulator, "--app", ":".join(APP), "--client-config", "1,1,3",
                            "--repush-scale", "0.05"])
        self.base_url = self.sim.wait(SOON, seen="listening")["base_url"]
        self.uuids = 0
        # Discovery says a ping each 3 s, pongs say 1 s: who reads the pongs, pings faster.
        config = {"ReconnectCount": -1, "ReconnectInterval": 1, "ReconnectNonce": 1, "PingInterval": 1}
        self.ask(do="fault", fault={"kind": "pong_payload", "payload": json.dumps(config)})
        self.judge = self.start_judge(APP[1])

    def start_judge(self, secret):
        return Process([*self.judge_command, self.base_url, APP[0], secret])

    def end(self):
        self.judge.end()
        self.sim.end()

    def ask(self, **command):
        """Gives the simulator a command and waits for its answer."""
        start = len(self.sim.lines)
        self.sim.tell(**command)
        did = {"push_text": "push", "push_event": "push", "replay": "push"}.get(command["do"], command["do"])
        return self.sim.wait(SOON, start=start, did=did)

    def push(self, text, **more):
        return self.ask(do="push_text", chat="oc_chat", sender="ou_user", text=text, **more)

    def answered(self, pushed, attempt=1):
        """The answer to a push: good, in time, and to the expected attempt."""
        answer = self.sim.wait(SOON * attempt, seen="answered", event_id=pushed["event_id"], code=200)
        assert not answer["late"], answer
        pushes = self.sim.count(seen="pushed", event_id=pushed["event_id"])
        assert pushes == attempt, f"{pushes} pushes"
        return answer

    def task(self, **task):
        """Lets the SDK do something; returns what it made of the answer."""
        self.uuids += 1
        task = {"name": f"task {self.uuids}", "uuid": f"uuid-{self.uuids}", **task}
        start = len(self.judge.lines)
        self.answered(self.push(json.dumps(task)))
        return self.judge.wait(SOON, start=start, said="answer", task=task["name"])

    # The checks. Each leaves the connection open for the next one.

    def finds_the_connection_and_opens_it(self):
        self.sim.wait(START, seen="opened")
        assert self.sim.wait(SOON, seen="discovery")["code"] == 0

    def pings_and_obeys_the_interval_in_pongs(self):
        self.sim.wait_count(SOON, 4, seen="ping")
        third, fourth = [it["at_ms"] for it in self.sim.lines if it.get("seen") == "ping"][2:4]
        assert fourth - third < 2000, f"{fourth - third} ms between pings"
        self.ask(do="clear")

    def receives_a_text_and_acknowledges_it(self):
        pushed = self.push("你好")
        self.answered(pushed)
        message = self.judge.wait(SOON, said="message", event_id=pushed["event_id"])
        expected = {"text": "你好", "message_id": pushed["message_id"], "chat_id": "oc_chat",
                    "chat_type": "p2p", "sender": "ou_user"}
        assert expected.items() <= message.items(), message

    def event(self, message, event_id, event_type="im.message.receive_v1"):
        sender = {"sender_id": {"open_id": "ou_user"}, "sender_type": "user", "tenant_key": "t"}
        body = {"sender": sender, "message": message}
        header = {"event_id": event_id, "event_type": event_type, "create_time": "1700000000000",
                  "token": "", "tenant_key": "t", "app_id": APP[0]}
        return {"schema": "2.0", "header": header, "event": body}

    def reads_mentions_and_topics(self):
        mention = {"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "Bot", "tenant_key": "t"}
        message = {"message_id": "om_topic", "chat_id": "oc_group", "chat_type": "group",
                   "message_type": "text", "content": json.dumps({"text": "@_user_1 hello"}),
                   "thread_id": "omt_1", "root_id": "om_root", "parent_id": "om_root",
                   "create_time": "1700000000000", "mentions": [mention]}
        self.answered(self.ask(do="push_event", event=self.event(message, "e-topic")))
        seen = self.judge.wait(SOON, said="message", event_id="e-topic")
        assert (seen["mentions"], seen["thread_id"]) == ([["@_user_1", "ou_bot", "Bot"]], "omt_1"), seen

    def joins_an_event_cut_inside_characters(self):
        text = "断" * 5000
        message = {"message_id": "om_long", "chat_id": "oc_chat", "chat_type": "p2p",
                   "message_type": "text", "content": json.dumps({"text": text}, ensure_ascii=False),
                   "create_time": "1700000000000"}
        for parts in (2, 7):
            name = f"e-{parts}-parts"
            self.answered(self.ask(do="push_event", event=self.event(message, name), parts=parts))
            seen = self.judge.wait(SOON, said="message", event_id=name)
            assert seen["text"] == text, "another text"
            assert self.sim.count(seen="answered", event_id=name) == 1, "one answer for all parts"

    def edits_and_recalls(self):
        sent = self.task(do="create", to="oc_chat", content={"text": "first"})
        id = sent["message_id"]
        edited = self.task(do="edit", id=id, msg_type="text", content=json.dumps({"text": "second"}))
        assert edited["code"] == 0, edited
        assert self.ask(do="shown", message_id=id)["shown"] == "second"
        got = self.task(do="get", id=id)
        assert got["data"]["items"][0]["body"]["content"] == '{"text":"second"}' or "second" in str(got), got
        assert self.task(do="recall", id=id)["code"] == 0
        assert self.task(do="edit", id=id, msg_type="text", content='{"text":"x"}')["code"] == 230011
        card = {"config": {"update_multi": True}, "elements": [{"tag": "markdown", "content": "one"}]}
        sent = self.task(do="create", to="oc_chat", msg_type="interactive", content=card)
        card["elements"][0]["content"] = "two"
        assert self.task(do="patch", id=sent["message_id"], content=json.dumps(card))["code"] == 0
        assert self.ask(do="shown", message_id=sent["message_id"])["shown"] == "two"

    def turns_the_pages_of_a_history(self):
        made = [self.task(do="create", to="oc_pages", content={"text": str(n)}) for n in range(5)]
        made = [it["message_id"] for it in made]
        for sort, wanted in (("ByCreateTimeAsc", made), ("ByCreateTimeDesc", made[::-1])):
            found, page = [], ""
            while True:
                got = self.task(do="history", container="chat", id="oc_pages", sort=sort, size=2, page=page)
                assert got["code"] == 0 and len(got["data"]["items"]) <= 2, got
                found += [it["message_id"] for it in got["data"]["items"]]
                if not got["data"]["has_more"]:
                    break
                page = got["data"]["page_token"]
            assert found == wanted, (sort, found)

    def reacts(self):
        id = self.push("react to this")["message_id"]
        made = self.task(do="react", id=id, emoji="OK")
        assert made["code"] == 0, made
        reaction = made["data"]["reaction_id"]
        items = self.task(do="reactions", id=id)["data"]["items"]
        assert [it["reaction_id"] for it in items] == [reaction], items
        assert self.task(do="unreact", id=id, reaction=reaction)["code"] == 0
        assert not self.task(do="reactions", id=id)["data"].get("items")
        assert self.task(do="react", id=id, emoji="🦀")["code"] == 231001

    def uploads_and_fetches(self):
        made = self.task(do="image", bytes="PNG and more")
        assert made["code"] == 0, made
        key = made["data"]["image_key"]
        sent = self.task(do="create", to="oc_chat", msg_type="image", content={"image_key": key})
        assert sent["code"] == 0, sent
        key = self.task(do="file", bytes="words")["data"]["file_key"]
        sent = self.task(do="create", to="oc_chat", msg_type="file", content={"file_key": key})
        assert sent["code"] == 0, sent
        fetched = self.task(do="resource", id=sent["message_id"], key=key, type="file")
        assert fetched["data"]["text"] == "words", fetched
        wrong = self.task(do="create", to="oc_chat", msg_type="image", content={"image_key": key})
        assert wrong["code"] == 230001, wrong

    def grows_a_card(self):
        def card(text):
            element = {"tag": "markdown", "element_id": "e1", "content": text}
            return {"schema": "2.0", "config": {"streaming_mode": True}, "body": {"elements": [element]}}
        id = self.task(do="card", type="card_json", data=json.dumps(card("a")))["data"]["card_id"]
        shown = {"type": "card", "data": {"card_id": id}}
        sent = self.task(do="create", to="oc_chat", msg_type="interactive", content=shown)
        assert sent["code"] == 0, sent
        seen = lambda: self.ask(do="shown", message_id=sent["message_id"])["shown"]
        words = self.task(do="card_words", id=id, element="e1", content="a b", sequence=1)
        assert (words["code"], seen()) == (0, "a b"), words
        again = self.task(do="card_words", id=id, element="e1", content="a", sequence=1)
        assert again["code"] == 300317, again
        assert self.task(do="card_of", message_id=sent["message_id"])["data"]["card_id"] == id
        settings = json.dumps({"config": {"streaming_mode": False}})
        assert self.task(do="card_done", id=id, settings=settings, sequence=2)["code"] == 0
        late = self.task(do="card_words", id=id, element="e1", content="a b c", sequence=3)
        assert late["code"] == 300309, late
        whole = self.task(do="card_whole", id=id, data=json.dumps(card("a b c")), sequence=4)
        assert (whole["code"], seen()) == (0, "a b c"), whole

    def answers_a_pressed_card(self):
        event = self.event({}, "e-press", "card.action.trigger")
        event["event"] = {"operator": {"open_id": "ou_user"}, "token": "c-1", "host": "im_message",
                          "action": {"tag": "button", "value": {"data": "yes"}},
                          "context": {"open_message_id": "om_1", "open_chat_id": "oc_chat"}}
        pressed = self.ask(do="push_event", event=event)
        answer = self.answered(pressed)
        data = json.loads(base64.b64decode(answer["data"]))
        assert data["toast"]["content"] == "heard", data
        said = self.judge.wait(SOON, said="pressed")
        assert (said["value"], said["message_id"]) == ({"data": "yes"}, "om_1"), said

    def names_a_missing_scope(self):
        self.ask(do="grant", scope="im:message:send_as_bot", granted=False)
        refused = self.task(do="create", to="oc_chat", content={"text": "x"})
        self.ask(do="grant", scope="im:message:send_as_bot", granted=True)
        assert refused["code"] == 99991672, refused

    def opens_what_is_posted(self):
        hook = {"encrypt_key": "an-encrypt-key", "token": "a-token"}
        other = Process([*self.judge_command, self.base_url, *APP[:2], *hook.values()])
        try:
            hook["url"] = other.wait(START, said="listening")["url"]
            answer = self.ask(do="challenge", hook=hook, challenge="prove it")
            assert answer["status"] == 200 and answer["body"]["challenge"] == "prove it", answer
            message = {"message_id": "om_posted", "chat_id": "oc_chat", "chat_type": "p2p", "create_time": "1",
                       "message_type": "text", "content": json.dumps({"text": "寄"}, ensure_ascii=False)}
            event = self.event(message, "e-posted")
            answer = self.ask(do="post", hook=hook, event=event)
            assert answer["status"] == 200, answer
            assert other.wait(SOON, said="message", event_id="e-posted")["text"] == "寄"
            forged = self.ask(do="post", hook={**hook, "encrypt_key": "another"}, event=event)
            assert forged["status"] != 200, forged
            assert other.count(said="message") == 1, "what is forged is not heard"
        finally:
            other.end()

    def understands_other_events(self):
        for kind, body in {
            "im.message.recalled_v1": {"message_id": "om_1", "chat_id": "oc_chat", "recall_time": "1"},
            "im.chat.member.bot.added_v1": {"chat_id": "oc_chat", "operator_id": {"open_id": "ou_user"}, "name": "C"},
            "application.bot.menu_v6":
                {"operator": {"operator_id": {"open_id": "ou_user"}}, "event_key": "k", "timestamp": 1},
            "im.chat.access_event.bot_p2p_chat_entered_v1":
                {"chat_id": "oc_chat", "operator_id": {"open_id": "ou_user"}},
            "im.message.message_read_v1":
                {"reader": {"reader_id": {"open_id": "ou_user"}, "read_time": "1"}, "message_id_list": ["om_1"]},
            "im.message.reaction.created_v1":
                {"message_id": "om_1", "reaction_type": {"emoji_type": "OK"}, "operator_type": "user",
                 "user_id": {"open_id": "ou_user"}, "action_time": "1"},
        }.items():
            event = self.event({}, f"e-{kind}", kind)
            event["event"] = body
            self.answered(self.ask(do="push_event", event=event))
            self.judge.wait(SOON, said="event", type=kind)

    def gets_a_failed_event_again(self):
        pushed = self.push("fail once")
        self.answered(pushed, attempt=2)
        first = self.sim.wait(SOON, seen="answered", event_id=pushed["event_id"])
        assert first["code"] == 500, first
        self.judge.wait(SOON, said="message", event_id=pushed["event_id"])

    def sends_once_under_one_uuid(self):
        task = {"do": "create", "to": "oc_chat", "content": {"text": "created"}, "uuid": "create-1"}
        first, second = self.task(**task), self.task(**task)
        assert first["code"] == second["code"] == 0, (first, second)
        assert first["message_id"] == second["message_id"] is not None, (first, second)
        sent = [it for it in self.ask(do="sent")["messages"] if it["uuid"] == "create-1"]
        assert len(sent) == 1, sent
        assert json.loads(sent[0]["content"]) == {"text": "created"}, sent

    def replies_and_opens_a_topic(self):
        plain = self.task(do="reply", content={"text": "plain"}, in_thread=False)
        topic = self.task(do="reply", content={"text": "topic"}, in_thread=True)
        assert (plain["code"], topic["code"]) == (0, 0), (plain, topic)
        threads = plain.get("thread_id"), topic.get("thread_id") or ""
        assert not threads[0] and threads[1].startswith("omt_"), (plain, topic)
        sent = self.sim.wait(SOON, seen="sent", message_id=topic["message_id"])
        assert sent["in_thread"] and sent["reply_to"] and sent["receive_id"] == "oc_chat", sent

    def sends_a_post(self):
        post = {"zh_cn": {"title": "t", "content": [[{"tag": "text", "text": "x"}]]}}
        task = {"do": "create", "to": "oc_chat", "msg_type": "post"}
        assert self.task(**task, content=post)["code"] == 0
        assert self.task(**task, content={"post": post})["code"] == 230001

    def reads_the_bot_info(self):
        info = self.task(do="bot_info")
        assert (info["code"], info["open_id"]) == (0, "ou_bot"), info

    def sees_a_rate_limit(self):
        trouble = {"kind": "rest", "route": "send", "trouble": "rate_limit", "reset_s": 1}
        self.ask(do="fault", fault=trouble, times=1)
        refused = self.task(do="create", to="oc_chat", content={"text": "too much"})
        assert refused["code"] == 99991400, refused
        self.ask(do="clear")

    def comes_back(self, command):
        opened = self.sim.count(seen="opened")
        calls = self.sim.count(seen="discovery")
        self.ask(**command)
        self.sim.wait_count(SOON, opened + 1, seen="opened")
        assert self.sim.count(seen="discovery") > calls, "a fresh URL for each attempt"
        self.answered(self.push("after " + command["do"]))

    def comes_back_after_a_reset(self):
        self.comes_back({"do": "reset"})

    def comes_back_after_a_close_frame(self):
        self.comes_back({"do": "close", "code": 1001})

    def comes_back_from_an_outage(self):
        self.ask(do="fault", fault={"kind": "discovery_status", "status": 503, "body": "<html>"}, times=2)
        self.comes_back({"do": "drop"})

    def gets_what_was_missed(self):
        opened, closed = self.sim.count(seen="opened"), self.sim.count(seen="closed")
        self.ask(do="fault", fault={"kind": "discovery_status", "status": 503}, times=2)
        self.ask(do="reset")
        self.sim.wait_count(SOON, closed + 1, seen="closed")
        pushed = self.push("meanwhile")
        self.sim.wait_count(SOON * 2, opened + 1, seen="opened")
        self.judge.wait(SOON * 2, said="message", event_id=pushed["event_id"])

    def reports_a_revoked_token(self):
        self.ask(do="revoke")
        refused = self.task(do="create", to="oc_chat", content={"text": "revoked"})
        assert refused["code"] == 99991663, refused

    def breaks_no_rule(self):
        # A LogID of 64 bits does not fit the numbers of JavaScript, and its biz_rt can be negative.
        tolerated = {"log_id", "biz_rt"} if self.name == "node" else set()
        broken = [it for it in self.ask(do="violations")["violations"] if it["rule"] not in tolerated]
        assert not broken, broken

    def is_refused_with_a_wrong_secret(self):
        other = self.start_judge("wrong")
        try:
            line = other.wait(START, said="gave up")
            assert "1000040345" in line["error"] or "invalid" in line["error"], line
        finally:
            other.end()


CHECKS = [
    "finds_the_connection_and_opens_it",
    "pings_and_obeys_the_interval_in_pongs",
    "receives_a_text_and_acknowledges_it",
    "reads_mentions_and_topics",
    "joins_an_event_cut_inside_characters",
    "understands_other_events",
    "gets_a_failed_event_again",
    "sends_once_under_one_uuid",
    "replies_and_opens_a_topic",
    "sends_a_post",
    "edits_and_recalls",
    "turns_the_pages_of_a_history",
    "reacts",
    "uploads_and_fetches",
    "grows_a_card",
    "answers_a_pressed_card",
    "names_a_missing_scope",
    "opens_what_is_posted",
    "reads_the_bot_info",
    "sees_a_rate_limit",
    "comes_back_after_a_reset",
    "comes_back_after_a_close_frame",
    "comes_back_from_an_outage",
    "gets_what_was_missed",
    "reports_a_revoked_token",
    "breaks_no_rule",
    "is_refused_with_a_wrong_secret",
]


if __name__ == "__main__":
    sys.exit(checks.run(Bench, CHECKS))
