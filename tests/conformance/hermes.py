"""A stock Hermes Agent behind the real gateway, between the simulated Feishu and a model of ours: once at our relay, once as
an API server that we ask. Prints `ok` or `FAIL` for each check.

Usage: hermes.py HERMES_PYTHON HERMES_GW SIM_FEISHU [MESSAGES [KIND]]

Hermes runs from an isolated home, installs nothing by itself and talks to loopback only. In between
it is killed, told to end, and the gateway's worker and supervisor are killed.
"""

import collections
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import check

PYTHON, GATEWAY, SIMULATOR = sys.argv[1:4]
# Pushed in nine shares, each of which is a multiple of the number of chats.
CHATS = 5
SHARE = (int(sys.argv[4]) if len(sys.argv) > 4 else 225) // 9 // CHATS * CHATS
APP = ("cli_hermes", "secret", "ou_bot")
SECRET = "a shared secret of both"
START = 120
TOKEN = re.compile(r"\bm(\d+)\b")


class Model(http.server.ThreadingHTTPServer):
    """Answers a question about `m7` with `answer m7`, some a little later than others."""

    daemon_threads = True

    def handle_error(self, *_):
        pass  # Who asked was killed.

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = collections.Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body, kind="application/json"):
        try:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            # Who asked is gone.
            self.close_connection = True

    def do_GET(self):
        model = {"id": "stub", "object": "model", "context_length": 128000}
        self.reply(json.dumps({"object": "list", "data": [model]}).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        users = [it["content"] for it in asked.get("messages", []) if it["role"] == "user"]
        last = users[-1] if users else ""
        last = last if isinstance(last, str) else json.dumps(last)
        tokens = TOKEN.findall(last)
        text = f"answer m{tokens[-1]}" if tokens and asked.get("tools") else "a title"
        if asked.get("tools") and tokens:
            self.server.asked[int(tokens[-1])] += 1
            time.sleep(0.05 + 0.05 * (int(tokens[-1]) % 4))
        if asked.get("tools") and "be slow" in last:
            time.sleep(60)
        made = {"id": "c", "created": int(time.time()), "model": "stub"}
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            whole = {**made, "object": "chat.completion", "choices": [choice], "usage": usage}
            return self.reply(json.dumps(whole).encode())
        chunks = [{"delta": {"role": "assistant", "content": ""}}, {"delta": {"content": text}},
                  {"delta": {}, "finish_reason": "stop"}]
        lines = [{**made, "object": "chat.completion.chunk", "choices": [{"index": 0, **it}]} for it in chunks]
        lines.append({**made, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        body = "".join(f"data: {json.dumps(it)}\n\n" for it in lines) + "data: [DONE]\n\n"
        self.reply(body.encode(), "text/event-stream")


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Hermes:
    """A stock agent with a home of its own."""

    def __init__(self, home, model, settings):
        self.home, self.log = home, home / "out.log"
        home.mkdir()
        (home / "config.yaml").write_text(json.dumps({
            "model": {"provider": "custom", "default": "stub", "base_url": model, "api_key": "none",
                      "context_length": 128000},
            "security": {"allow_lazy_installs": False},
        }))
        (home / ".env").write_text(settings)
        self.process = None

    def start(self):
        plain = {key: os.environ[key] for key in ("PATH", "LANG", "TERM") if key in os.environ}
        environment = {**plain, "HOME": str(self.home), "HERMES_HOME": str(self.home),
                       "NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}
        program = pathlib.Path(PYTHON).parent / "hermes"
        self.process = subprocess.Popen([program, "gateway", "run"], env=environment, cwd=self.home,
                                        stdin=subprocess.DEVNULL, stdout=self.log.open("a"),
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Bench:
    """One way to speak with the agent, and the checks in their order."""

    def __init__(self, directory, kind):
        self.dir, self.kind = directory, kind
        self.model = Model()
        self.sim = check.Process([SIMULATOR, "--app", ":".join(APP), "--repush-scale", "0.02"])
        base = self.sim.wait(check.SOON, seen="listening")["base_url"]
        port = free_port()
        agent, settings = self.ways(port)
        home = directory / "home"
        (directory / "secret").write_text(APP[1])
        (directory / "key").write_text(SECRET)
        (directory / "gw.toml").write_text(f"""
            [gateway]
            state_dir = "s"
            log = "debug"
            [platform.feishu]
            app_id = "{APP[0]}"
            app_secret_file = "secret"
            base_url = "{base}"
            access = {{ direct = "open", groups = "all", chats = ["oc_3", "oc_4"] }}
            [agent.hermes]
            max_attempts = 20
            {agent}
        """)
        self.log = directory / "gw.log"
        self.start()
        self.sim.wait(check.SOON, seen="opened")
        self.hermes = Hermes(home, self.model.url(), settings)
        self.pushed = []

    def ways(self, port):
        """The agent's block of our configuration, and its own settings."""
        if self.kind == "relay":
            return (f"""
                kind = "relay"
                listen = "127.0.0.1:{port}"
                secret_file = "key"
                home = "home"
            """, "\n".join([
                f"GATEWAY_RELAY_URL=http://127.0.0.1:{port}", "GATEWAY_RELAY_ID=hermes",
                f"GATEWAY_RELAY_SECRET={SECRET}", "GATEWAY_RELAY_PLATFORMS=feishu",
                'GATEWAY_RELAY_BOT_IDS={"feishu":{"botId":"cli_hermes"}}', ""]))
        return (f"""
                kind = "openai"
                base_url = "http://127.0.0.1:{port}/v1"
                model = "hermes-agent"
                key_file = "key"
                memory = "hermes"
            """, f"API_SERVER_ENABLED=true\nAPI_SERVER_KEY={SECRET}\nAPI_SERVER_PORT={port}\n")

    def start(self):
        self.gateway = subprocess.Popen([GATEWAY, "supervise", "--config", self.dir / "gw.toml"],
                                        stdin=subprocess.DEVNULL, stderr=self.log.open("a"))

    def end(self):
        self.hermes.kill()
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
            assert time.monotonic() < deadline, f"{what}: not within {limit} s; {self.status('hermes')}"
            time.sleep(0.05)

    def push(self, count):
        for n in range(len(self.pushed), len(self.pushed) + count):
            chat = n % CHATS
            more = {"group": True} if chat >= 3 else {}
            sender = f"ou_{chat}{n % 2 if more else ''}"
            start = len(self.sim.lines)
            self.sim.tell(do="push_text", chat=f"oc_{chat}", sender=sender, text=f"what is m{n}", **more)
            self.pushed.append(self.sim.wait(check.SOON, start=start, did="push"))

    def sent(self):
        start = len(self.sim.lines)
        self.sim.tell(do="sent")
        return self.sim.wait(check.SOON, start=start, did="sent")["messages"]

    def is_open(self):
        return self.status("hermes")["gate"]["open"]

    def count(self):
        return len(self.sent())

    def answers(self):
        """The numbers of the answers in each chat, in the order in which they came."""
        found = collections.defaultdict(list)
        for message in self.sent():
            text = message["shown"]
            answer = re.fullmatch(r"answer m(\d+)", text)
            assert answer, f"not an answer: {text!r}"
            found[message["receive_id"]].append(int(answer[1]))
        return found

    # The checks, in their order.

    def what_comes_before_the_agent_waits(self):
        self.push(SHARE)
        self.until("all accepted", 60, lambda: self.status("feishu")["store"]["waiting"] == SHARE)
        assert not self.status("hermes")["gate"]["open"]

    def the_agent_is_ready(self):
        self.hermes.start()
        self.until("gate open", START, self.is_open)

    def in_the_middle(self, trouble):
        """Some are answered, some are in work, more come while there is trouble."""
        before = self.count()
        self.push(SHARE)
        self.until("some answers", START, lambda: self.count() > before + SHARE // 4)
        trouble()
        self.push(SHARE)

    def the_agent_is_killed(self):
        def trouble():
            self.hermes.kill()
            self.hermes.start()
        self.in_the_middle(trouble)

    def the_agent_is_told_to_end(self):
        def trouble():
            self.hermes.process.terminate()
            self.hermes.process.wait(60)
            self.hermes.start()
        self.in_the_middle(trouble)

    def the_worker_is_killed(self):
        self.in_the_middle(lambda: os.kill(self.status("hermes")["pid"], signal.SIGKILL))

    def the_supervisor_is_killed(self):
        def trouble():
            # What the platform has to repeat would come in another order.
            self.acknowledged()
            opened = self.sim.count(seen="opened")
            self.gateway.kill()
            self.gateway.wait()
            self.start()
            self.sim.wait_count(check.SOON, opened + 1, seen="opened")
        self.in_the_middle(trouble)

    def acknowledged(self):
        for event in self.pushed:
            self.sim.wait(check.SOON, seen="answered", event_id=event["event_id"], code=200)

    def every_message_is_accepted_and_settled(self):
        self.acknowledged()
        self.until("all answered", 2 * START,
                   lambda: self.status("feishu")["store"]["waiting"] == 0)

    def every_message_has_one_answer_in_order(self):
        self.until("all sent", START, lambda: self.status("feishu")["store"]["replies"] == 0)
        for chat, numbers in sorted(self.answers().items()):
            expected = list(range(int(chat[-1]), len(self.pushed), CHATS))
            assert numbers == expected, f"{chat}: {numbers}, not {expected}"
        assert self.status("feishu")["store"]["parked"] == 0

    def a_doubt_is_marked(self):
        doubts = len(re.findall("again: the (?:agent|server) may have seen it", self.log.read_text()))
        again = sum(times - 1 for times in self.model.asked.values())
        print(f"   offered again {doubts}, of which the model was asked again {again}", flush=True)
        assert again <= doubts, f"{again} turns were repeated, {doubts} told"

    def a_turn_is_stopped_and_the_conversation_goes_on(self):
        before = self.count()
        for text in ("be slow", "/stop"):
            if text == "/stop":
                self.until("at work", START, lambda: self.status("hermes")["gate"]["in_flight"] == 1)
                time.sleep(2)
            self.sim.tell(do="push_text", chat="oc_0", sender="ou_0", text=text)
        self.until("stopped", START, lambda: self.status("feishu")["store"]["waiting"] == 0)
        self.sim.tell(do="push_text", chat="oc_0", sender="ou_0", text="what is m0")
        self.until("goes on", START, lambda: self.sent()[-1]["shown"].strip() == "answer m0")
        shown = [it["shown"].strip() for it in self.sent()[before:]]
        assert shown[0] == "Stopped.", shown
        assert shown[-1] == "answer m0" and len(shown) <= 3, shown

    def session_keys_are_the_agents_own(self):
        ours = set(re.findall(r'session="([^"]+)"', self.log.read_text()))
        assert len(ours) == 3 + 2 * 2, ours
        look = """
import json, sys
from gateway.config import Platform
from gateway.session import SessionSource, build_session_key
for line in sys.stdin:
    it = json.loads(line)
    print(build_session_key(SessionSource(platform=Platform("feishu"), **it)))
"""
        users = [("dm", n, f"ou_{n}") for n in range(3)]
        users += [("group", n, f"ou_{n}{m}") for n in (3, 4) for m in (0, 1)]
        # The simulated platform's way to make a union_id.
        sources = [{"chat_id": f"oc_{chat}", "chat_type": kind, "user_id": user, "user_id_alt": f"on_of_{user}"}
                   for kind, chat, user in users]
        asked = "\n".join(json.dumps(it) for it in sources)
        theirs = subprocess.run([PYTHON, "-c", look], input=asked, capture_output=True, text=True,
                                env={**os.environ, "HERMES_HOME": str(self.hermes.home)}, timeout=120)
        assert set(theirs.stdout.split()) == ours, (theirs.stdout, theirs.stderr, ours)
        stored = set()
        for path in self.hermes.home.rglob("sessions.json"):
            stored |= {key for key in json.loads(path.read_text()) if key.startswith("agent:")}
        assert stored == ours, (stored, ours)


    def each_chat_is_one_session(self):
        names = set()
        for path in self.hermes.home.glob("state.db"):
            with sqlite3.connect(path) as store:
                names |= {row[0] for row in store.execute("select id from sessions")}
        assert len({name for name in names if name.startswith("hgw-")}) == CHATS, names


COMMON = [
    "what_comes_before_the_agent_waits",
    "the_agent_is_ready",
    "the_agent_is_killed",
    "the_agent_is_told_to_end",
    "the_worker_is_killed",
    "the_supervisor_is_killed",
    "every_message_is_accepted_and_settled",
    "every_message_has_one_answer_in_order",
    "a_doubt_is_marked",
]
CHECKS = {
    "relay": [*COMMON, "session_keys_are_the_agents_own", "a_turn_is_stopped_and_the_conversation_goes_on"],
    "openai": [*COMMON, "each_chat_is_one_session", "a_turn_is_stopped_and_the_conversation_goes_on"],
}


def judge(bench):
    for name in CHECKS[bench.kind]:
        text = f"hermes {bench.kind}: {name.replace('_', ' ')}"
        try:
            getattr(bench, name)()
        except Exception as error:
            print(f"FAIL {text}\n  {type(error).__name__}: {error}", flush=True)
            for log in (bench.log, bench.hermes.log):
                if log.exists():
                    print(f"  --- {log.name}", *log.read_text().splitlines()[-40:], sep="\n")
            return 1
        print(f"ok   {text}", flush=True)
    return 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    for kind in sys.argv[5:] or CHECKS:
        with tempfile.TemporaryDirectory(prefix="hgw") as directory:
            bench = Bench(pathlib.Path(directory), kind)
            try:
                failed += judge(bench)
            finally:
                bench.end()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
