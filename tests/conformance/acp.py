"""Stock agents that speak the Agent Client Protocol behind the real gateway, between the simulated Feishu and a model of ours. Prints
`ok` or `FAIL` for each check.

Usage: acp.py HERMES_BIN HERMES_GW SIM_FEISHU OPENCODE [MESSAGES [AGENT...]]

The agents run from isolated homes, install nothing by themselves and talk to loopback only.
"""

import collections
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import check

HERMES, GATEWAY, SIMULATOR, OPENCODE = sys.argv[1:5]
CHATS = 5
SHARE = (int(sys.argv[5]) if len(sys.argv) > 5 else 200) // 8 // CHATS * CHATS
APP = ("cli_acp", "secret", "ou_bot")
START = 180
TOKEN = re.compile(r"\bm(\d+)\b")


def words(content):
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


class Model(http.server.ThreadingHTTPServer):
    """Answers a question about `m7` with `answer m7`, word by word, some a little later than others; one about `slow` never."""

    daemon_threads = True

    def handle_error(self, *_):
        pass  # Who asked was killed.

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        # Of each question what the user had said before, by numbers.
        self.heard = {}
        self.asked = collections.Counter()
        self.permits = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def head(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def do_GET(self):
        self.head("application/json")
        model = {"id": "stub", "object": "model", "context_length": 128000}
        self.wfile.write(json.dumps({"object": "list", "data": [model]}).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = asked.get("messages", [])
        users = [words(it["content"]) for it in messages if it["role"] == "user"]
        tokens = [int(it) for text in users for it in TOKEN.findall(text)]
        text, calls = "a title", None
        if asked.get("tools"):
            if tokens:
                self.server.asked[tokens[-1]] += 1
                self.server.heard[tokens[-1]] = tokens[:-1]
                text = f"answer m{tokens[-1]}"
                time.sleep(0.05 + 0.05 * (tokens[-1] % 4))
            if users and "slow" in users[-1]:
                time.sleep(60)
            # Once for each time that somebody says it.
            if sum("permit this" in text for text in users) > self.server.permits:
                self.server.permits += 1
                arguments = json.dumps({"command": "rm -rf /tmp/hgw-nothing-there"})
                calls = [{"index": 0, "id": "call_1", "type": "function",
                          "function": {"name": "terminal", "arguments": arguments}}]
        made = {"id": "c", "created": int(time.time()), "model": "stub"}
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        try:
            if not asked.get("stream"):
                self.head("application/json")
                message = {"role": "assistant", "content": text}
                reason = "stop"
                if calls:
                    message, reason = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
                choice = {"index": 0, "finish_reason": reason, "message": message}
                whole = {**made, "object": "chat.completion", "choices": [choice], "usage": usage}
                self.wfile.write(json.dumps(whole).encode())
                return
            self.head("text/event-stream")
            if calls:
                deltas = [({"role": "assistant", "tool_calls": calls}, None), ({}, "tool_calls")]
            else:
                parts = re.findall(r"\S+\s*", text)
                deltas = [({"role": "assistant", "content": ""}, None)]
                deltas += [({"content": part}, None) for part in parts] + [({}, "stop")]
            for delta, reason in deltas:
                choice = {"index": 0, "delta": delta, "finish_reason": reason}
                chunk = {**made, "object": "chat.completion.chunk", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            chunk = {**made, "object": "chat.completion.chunk", "choices": [], "usage": usage}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
        except OSError:
            pass  # Who asked is gone.


class Bench:
    """One agent, and the checks in their order."""

    def __init__(self, directory, kind):
        self.dir, self.kind = directory, kind
        self.model = Model()
        self.sim = check.Process([SIMULATOR, "--app", ":".join(APP), "--repush-scale", "0.02"])
        base = self.sim.wait(check.SOON, seen="listening")["base_url"]
        home = directory / "home"
        home.mkdir()
        plain = {key: os.environ[key] for key in ("PATH", "LANG", "TERM") if key in os.environ}
        self.environment = {**plain, "HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
        command = self.hermes(home) if kind == "hermes" else self.opencode(home)
        variables = sorted(set(self.environment) - set(plain) - {"HOME"})
        (directory / "secret").write_text(APP[1])
        (directory / "gw.toml").write_text(f"""
            [gateway]
            state_dir = "s"
            log = "debug"
            memory_mb = 4096
            [platform.feishu]
            app_id = "{APP[0]}"
            app_secret_file = "secret"
            base_url = "{base}"
            access = {{ direct = "open", groups = "all", chats = ["oc_3", "oc_4"] }}
            [agent.coder]
            kind = "acp"
            command = {json.dumps(command)}
            dir = "home"
            variables = {json.dumps(variables)}
            max_attempts = 20
            permission_s = 40
        """)
        self.log = directory / "gw.log"
        self.start()
        self.sim.wait(check.SOON, seen="opened")
        self.pushed = []

    def hermes(self, home):
        (home / "config.yaml").write_text(json.dumps({
            "model": {"provider": "custom", "default": "stub", "base_url": self.model.url(), "api_key": "none",
                      "context_length": 128000},
            "security": {"allow_lazy_installs": False},
        }))
        (home / ".env").write_text("")
        self.environment |= {"HERMES_HOME": str(home), "TIRITH_ENABLED": "false", "HF_HUB_OFFLINE": "1"}
        return [str(pathlib.Path(HERMES) / "hermes-acp")]

    def opencode(self, home):
        for name in ("CONFIG", "DATA", "CACHE", "STATE"):
            self.environment[f"XDG_{name}_HOME"] = str(home / name.lower())
        self.environment["OPENCODE_DISABLE_MODELS_FETCH"] = "1"
        (home / "config" / "opencode").mkdir(parents=True)
        limit = {"context": 100000, "output": 4000}
        (home / "config" / "opencode" / "opencode.json").write_text(json.dumps({
            "provider": {"stub": {
                "npm": "@ai-sdk/openai-compatible", "name": "Stub",
                "options": {"baseURL": self.model.url(), "apiKey": "none"},
                "models": {"stub": {"name": "Stub", "limit": limit}},
            }},
            "model": "stub/stub", "small_model": "stub/stub", "autoupdate": False, "share": "disabled",
        }))
        return [OPENCODE, "acp"]

    def start(self):
        self.gateway = subprocess.Popen([GATEWAY, "supervise", "--config", self.dir / "gw.toml"], env=self.environment,
                                        stdin=subprocess.DEVNULL, stderr=self.log.open("a"))

    def end(self):
        self.gateway.terminate()
        try:
            self.gateway.wait(20)
        except subprocess.TimeoutExpired:
            self.gateway.kill()
        self.sim.end()

    def status(self, name):
        line = subprocess.run([GATEWAY, "ctl", "status", "--json", "--state-dir", self.dir / "s"],
                              capture_output=True, text=True, timeout=20).stdout
        instances = json.loads(line or "{}").get("instances") or []
        return next((it for it in instances if it["name"] == name), None)

    def until(self, what, limit, is_so):
        deadline = time.monotonic() + limit
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: not within {limit} s; {self.status('coder')}"
            time.sleep(0.05)

    def say(self, chat, text):
        more = {"group": True} if chat >= 3 else {}
        start = len(self.sim.lines)
        self.sim.tell(do="push_text", chat=f"oc_{chat}", sender=f"ou_{chat}", text=text, **more)
        event = self.sim.wait(check.SOON, start=start, did="push")
        self.sim.wait(check.SOON, seen="answered", event_id=event["event_id"], code=200)

    def push(self, count):
        for n in range(len(self.pushed), len(self.pushed) + count):
            self.say(n % CHATS, f"what is m{n}")
            self.pushed.append(n)

    def sent(self):
        start = len(self.sim.lines)
        self.sim.tell(do="sent")
        return self.sim.wait(check.SOON, start=start, did="sent")["messages"]

    def shown(self, chat):
        return [it["shown"] for it in self.sent() if it["receive_id"] == f"oc_{chat}"]

    def count(self):
        return len(self.sent())

    def settled(self):
        self.until("all settled", 2 * START, lambda: self.status("feishu")["store"]["waiting"] == 0)
        self.until("all sent", START, lambda: self.status("feishu")["store"]["replies"] == 0)

    # The checks, in their order.

    def what_comes_before_the_agent_waits_and_is_answered(self):
        self.push(SHARE)
        self.until("gate open", START, lambda: self.status("coder")["gate"]["open"])
        self.push(SHARE)
        self.settled()

    def in_the_middle(self, trouble):
        """Some are answered, some are in work, more come while there is trouble."""
        before = self.count()
        self.push(SHARE)
        self.until("some answers", START, lambda: self.count() > before + SHARE // 4)
        trouble()
        self.push(SHARE)
        self.settled()

    def the_agents_process_is_killed(self):
        def trouble():
            worker = self.status("coder")["pid"]
            children = pathlib.Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
            assert children, "the agent has no process"
            for child in children:
                os.kill(int(child), signal.SIGKILL)
        self.in_the_middle(trouble)

    def the_worker_is_killed(self):
        self.in_the_middle(lambda: os.kill(self.status("coder")["pid"], signal.SIGKILL))

    def the_supervisor_is_killed(self):
        def trouble():
            opened = self.sim.count(seen="opened")
            self.gateway.kill()
            self.gateway.wait()
            self.start()
            self.sim.wait_count(check.SOON, opened + 1, seen="opened")
        self.in_the_middle(trouble)

    def every_message_has_one_answer_in_order(self):
        left = 0
        for chat in range(CHATS):
            expected = [f"answer m{n}" for n in self.pushed if n % CHATS == chat]
            found = []
            for sent in self.sent():
                if sent["receive_id"] != f"oc_{chat}":
                    continue
                text = sent["shown"].strip()
                # A gateway that is killed while a draft is on its way does not know the message that shows it.
                if found and sent["msg_type"] != "interactive" and found[-1][1] and text.startswith(found[-1][0]):
                    found.pop()
                    left += 1
                found.append((text, sent["msg_type"] == "interactive"))
            found = [text for text, _ in found]
            assert found == expected, f"chat {chat}: {found}, not {expected}"
        print(f"   drafts that a kill of the whole gateway left behind: {left}", flush=True)
        assert left <= CHATS
        assert self.status("feishu")["store"]["parked"] == 0

    def each_chat_is_one_conversation_and_nothing_is_said_twice(self):
        for chat in range(CHATS):
            own = [n for n in self.pushed if n % CHATS == chat]
            heard = self.model.heard[own[-1]]
            assert set(heard) <= set(own), f"chat {chat} heard of others: {heard}"
            twice = [n for n, times in collections.Counter(heard).items() if times > 1]
            assert not twice, f"chat {chat}: said twice {twice}"
            assert heard == own[:-1], f"chat {chat}: remembered {heard}, not {own[:-1]}"
        again = sum(times - 1 for times in self.model.asked.values())
        doubts = len(re.findall("again: the agent may have seen it", self.log.read_text()))
        print(f"   offered again {doubts}, of which the model was asked again {again}", flush=True)

    def a_turn_is_stopped_and_the_conversation_goes_on(self):
        for _ in range(2):
            before = len(self.shown(0))
            self.say(0, "be slow")
            self.until("at work", START, lambda: self.status("coder")["gate"]["in_flight"] == 1)
            time.sleep(1.5)
            self.say(0, "/stop")
            self.until("stopped", START, lambda: "Stopped." in self.shown(0)[before:])
            self.push_one(0)
            self.until("goes on", START, lambda: self.shown(0)[-1].strip() == f"answer m{self.pushed[-1]}")
        self.settled()

    def push_one(self, chat):
        n = len(self.pushed) + (chat - len(self.pushed)) % CHATS
        self.pushed.append(n)
        self.say(chat, f"what is m{n}")

    def permission_is_asked_in_the_chat(self):
        for answer in ("2", "1"):
            before = len(self.shown(1))
            self.say(1, "permit this")
            self.until("asked", START, lambda: any("Allow once" in it for it in self.shown(1)[before:]))
            assert any("rm -rf" in it for it in self.shown(1)[before:]), self.shown(1)[before:]
            self.say(1, answer)
            self.settled()
        assert "no answer in time" not in "".join(self.shown(1)), self.shown(1)

    def a_new_conversation_has_forgotten(self):
        self.say(2, "/new")
        self.push_one(2)
        self.settled()
        heard = self.model.heard[self.pushed[-1]]
        assert not heard, f"remembered {heard}"

    def memory_of_the_worker_is_told(self):
        memory = self.status("coder")["memory"] / 2**20
        print(f"   the worker has {memory:.1f} MiB of its own", flush=True)
        assert memory < 64


CHECKS = [
    "what_comes_before_the_agent_waits_and_is_answered",
    "the_agents_process_is_killed",
    "the_worker_is_killed",
    "the_supervisor_is_killed",
    "every_message_has_one_answer_in_order",
    "each_chat_is_one_conversation_and_nothing_is_said_twice",
    "a_turn_is_stopped_and_the_conversation_goes_on",
    "a_new_conversation_has_forgotten",
    "memory_of_the_worker_is_told",
]
MORE = {"hermes": ["permission_is_asked_in_the_chat"], "opencode": []}


def judge(bench):
    for name in CHECKS + MORE[bench.kind]:
        text = f"acp {bench.kind}: {name.replace('_', ' ')}"
        try:
            getattr(bench, name)()
        except Exception as error:
            print(f"FAIL {text}\n  {type(error).__name__}: {error}", flush=True)
            print("  --- gw.log", *bench.log.read_text().splitlines()[-60:], sep="\n")
            return 1
        print(f"ok   {text}", flush=True)
    return 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    for kind in sys.argv[6:] or MORE:
        with tempfile.TemporaryDirectory(prefix="hgw") as directory:
            bench = Bench(pathlib.Path(directory), kind)
            try:
                failed += judge(bench)
            finally:
                bench.end()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
