"""A stock Hermes Agent behind the real gateway, between a simulated platform and a model of ours: at our relay, and as an API
server that we ask; on Feishu, and on Telegram. Prints `ok` or `FAIL` for each check.

Usage: hermes.py HERMES_PYTHON HERMES_GW SIMULATORS [MESSAGES [WORLD...]], a world being for example `relay telegram`. With
AWAY_S in the environment the agent is away for so many seconds as well.

Hermes runs from an isolated home, installs nothing by itself and talks to loopback only. In between
it is killed, told to end, and the gateway's worker and supervisor are killed.
"""

import base64
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
import zlib

import hermes_platforms as platforms

PYTHON, GATEWAY, SIMULATORS = sys.argv[1:4]
# Pushed in nine shares, each of which is a multiple of the number of chats.
CHATS = 5
SHARE = (int(sys.argv[4]) if len(sys.argv) > 4 else 225) // 9 // CHATS * CHATS
SECRET = "a shared secret of both"
START = 120
AWAY = int(os.environ.get("AWAY_S", "0"))
# A group of Telegram takes twenty messages a minute.
PATIENCE = 600
TOKEN = re.compile(r"\bm(\d+)\b")


class Model(http.server.ThreadingHTTPServer):
    """Answers a question about `m7` with `answer m7`, some a little later than others."""

    daemon_threads = True

    def handle_error(self, *_):
        pass  # Who asked was killed.

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = collections.Counter()
        self.pictures = []
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
        for message in asked.get("messages", []):
            parts = message["content"] if isinstance(message["content"], list) else []
            self.server.pictures += [it["image_url"]["url"] for it in parts if it.get("type") == "image_url"]
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


def picture():
    """A PNG of eight by eight white dots."""
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    head = (8).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress((b"\0" + b"\xff" * 24) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Bench:
    """One way to speak with the agent, one platform, and the checks in their order."""

    def __init__(self, directory, kind, platform):
        self.dir, self.kind = directory, kind
        self.model = Model()
        self.platform = platforms.PLATFORMS[platform](directory, SIMULATORS)
        port = free_port()
        agent, settings = self.ways(port)
        (directory / "key").write_text(SECRET)
        (directory / "gw.toml").write_text(f"""
            [gateway]
            state_dir = "s"
            log = "debug"
            {self.platform.config()}
            [agent.hermes]
            max_attempts = 20
            {agent}
        """)
        self.log = directory / "gw.log"
        self.start()
        self.hermes = Hermes(directory / "home", self.model.url(), settings)
        self.pushed = 0

    def ways(self, port):
        """The agent's block of our configuration, and its own settings."""
        if self.kind == "relay":
            name, bot = self.platform.name, self.platform.bot
            return (f"""
                kind = "relay"
                listen = "127.0.0.1:{port}"
                secret_file = "key"
                home = "home"
            """, "\n".join([
                f"GATEWAY_RELAY_URL=http://127.0.0.1:{port}", "GATEWAY_RELAY_ID=hermes",
                f"GATEWAY_RELAY_SECRET={SECRET}", f"GATEWAY_RELAY_PLATFORMS={name}",
                f"GATEWAY_RELAY_BOT_IDS={json.dumps({name: bot})}", ""]))
        return (f"""
                kind = "openai"
                base_url = "http://127.0.0.1:{port}/v1"
                model = "hermes-agent"
                key_file = "key"
                memory = "hermes"
                images = true
            """, f"API_SERVER_ENABLED=true\nAPI_SERVER_KEY={SECRET}\nAPI_SERVER_PORT={port}\n")

    def start(self):
        self.gateway = subprocess.Popen([GATEWAY, "supervise", "--config", self.dir / "gw.toml"],
                                        stdin=subprocess.DEVNULL, stderr=self.log.open("a"))
        self.platform.wait_connected(self.wait_status)

    def end(self):
        self.hermes.kill()
        self.gateway.terminate()
        try:
            self.gateway.wait(20)
        except subprocess.TimeoutExpired:
            self.gateway.kill()
        self.platform.end()

    def ctl(self, *words):
        line = subprocess.run([GATEWAY, "ctl", *words, "--json", "--state-dir", self.dir / "s"],
                              capture_output=True, text=True, timeout=20).stdout
        return json.loads(line or "{}")

    def status(self, name):
        return next((it for it in self.ctl("status").get("instances") or [] if it["name"] == name), None)

    def wait_status(self, name, what, is_so):
        def met():
            found = self.status(name)
            return found is not None and is_so(found)
        self.until(what, START, met)

    def kept(self, what):
        return self.status(self.platform.name)["store"][what]

    def until(self, what, limit, is_so):
        deadline = time.monotonic() + limit
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: not within {limit} s; {self.status('hermes')}"
            time.sleep(0.1)

    def push(self, count):
        for n in range(self.pushed, self.pushed + count):
            chat = n % CHATS
            self.platform.push(chat, n // CHATS % len(platforms.people(chat)), f"what is m{n}")
        self.pushed += count

    def shown(self, chat):
        return [text for found, text in self.platform.shown() if found == chat]

    def is_open(self):
        return self.status("hermes")["gate"]["open"]

    def count(self):
        return len(self.platform.shown())

    def answers(self):
        """The numbers of the answers in each chat, in the order in which they came."""
        found = collections.defaultdict(list)
        for chat, text in self.platform.shown():
            answer = re.fullmatch(r"answer m(\d+)", text)
            assert answer, f"not an answer: {text!r}"
            found[chat].append(int(answer[1]))
        return found

    def doubtful(self):
        """The numbers of the answers of which the platform did not say whether it has them."""
        found = set()
        for item in self.ctl("parked", "list").get("items", []):
            text = self.ctl("parked", "show", str(item["id"])).get("text") or ""
            answer = re.fullmatch(r"answer m(\d+)", text.strip())
            assert item["state"] == "unknown" and answer, (item, text)
            found.add(int(answer[1]))
        return found

    # The checks, in their order.

    def what_comes_before_the_agent_waits(self):
        self.push(SHARE)
        self.until("all accepted", 60, lambda: self.kept("waiting") == SHARE)
        assert not self.status("hermes")["gate"]["open"]

    def the_agent_is_ready(self):
        self.hermes.start()
        self.until("gate open", START, self.is_open)

    def the_agent_is_away_for_long(self):
        """What is told meanwhile is true, and nobody has to do anything when it is back."""
        self.hermes.kill()
        start = time.monotonic()
        self.until("gate shut", START, lambda: not self.is_open())
        print(f"   gate shut {time.monotonic() - start:.1f} s after the kill", flush=True)
        waited = self.kept("waiting")
        for part in range(6):
            self.push(CHATS)
            time.sleep(max(0.0, start + AWAY * (part + 1) / 6 - time.monotonic()))
            told = self.status("hermes")
            assert not told["gate"]["open"] and told["outside"] == "down" and told["reason"], told
            print(f"   away for {time.monotonic() - start:.0f} s: {told['reason']!r}, "
                  f"{self.kept('waiting')} wait, {told['memory'] / 2**20:.1f} MiB", flush=True)
        assert self.kept("waiting") == waited + 6 * CHATS and self.kept("parked") == 0
        self.hermes.start()
        start = time.monotonic()
        self.until("gate open", START, self.is_open)
        print(f"   gate open {time.monotonic() - start:.1f} s after the agent's start", flush=True)
        self.until("all answered", START, lambda: self.kept("waiting") == 0)

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
            self.platform.acknowledged()
            self.platform.leave()
            self.gateway.kill()
            self.gateway.wait()
            self.start()
        self.in_the_middle(trouble)

    def every_message_is_accepted_and_settled(self):
        self.platform.acknowledged()
        self.until("all answered", PATIENCE, lambda: self.kept("waiting") == 0)

    def every_message_has_one_answer_in_order(self):
        self.until("all sent", PATIENCE, lambda: self.kept("replies") == 0)
        # Telegram has no keys: what was on its way when the supervisor was killed is reported, not sent twice.
        doubtful = self.doubtful()
        print(f"   {self.pushed} messages; answers reported as unknown: {sorted(doubtful)}", flush=True)
        assert len(doubtful) <= (CHATS if self.platform.name == "telegram" else 0)
        found = self.answers()
        for chat in range(CHATS):
            numbers = found[chat]
            expected = [n for n in range(chat, self.pushed, CHATS) if n in numbers or n not in doubtful]
            assert numbers == expected, f"{chat}: {numbers}, not {expected}"
        assert self.kept("parked") == 0

    def a_doubt_is_marked(self):
        doubts = len(re.findall("again: the (?:agent|server) may have seen it", self.log.read_text()))
        again = sum(times - 1 for times in self.model.asked.values())
        print(f"   offered again {doubts}, of which the model was asked again {again}", flush=True)
        assert again <= doubts, f"{again} turns were repeated, {doubts} told"

    def a_picture_reaches_the_model(self):
        before = len(self.shown(0))
        self.platform.push_picture(picture(), f"what is m{self.pushed}")
        self.until("answered", START, lambda: len(self.shown(0)) > before)
        assert self.shown(0)[-1] == f"answer m{self.pushed}", self.shown(0)[before:]
        ours = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
        assert ours in self.model.pictures, [it[:60] for it in self.model.pictures]

    def a_turn_is_stopped_and_the_conversation_goes_on(self):
        before = len(self.shown(0))
        for text in ("be slow", "/stop"):
            if text == "/stop":
                self.until("at work", START, lambda: self.status("hermes")["gate"]["in_flight"] == 1)
                time.sleep(2)
            self.platform.push(0, 0, text)
        self.until("stopped", START, lambda: self.kept("waiting") == 0)
        self.platform.push(0, 0, "what is m0")
        self.until("goes on", START, lambda: self.shown(0)[-1] == "answer m0")
        shown = self.shown(0)[before:]
        assert shown[0] == "Stopped.", shown
        assert shown[-1] == "answer m0" and len(shown) <= 3, shown

    def session_keys_are_the_agents_own(self):
        ours = set(re.findall(r'session="([^"]+)"', self.log.read_text()))
        look = """
import json, sys
from gateway.config import Platform
from gateway.session import SessionSource, build_session_key
for line in sys.stdin:
    print(build_session_key(SessionSource(platform=Platform(sys.argv[1]), **json.loads(line))))
"""
        sources = list(self.platform.sources())
        theirs = subprocess.run([PYTHON, "-c", look, self.platform.name], input=platforms.as_lines(sources),
                                capture_output=True, text=True, timeout=120,
                                env={**os.environ, "HERMES_HOME": str(self.hermes.home)})
        theirs = set(theirs.stdout.split()) or theirs.stderr
        assert theirs == ours, (theirs, ours)
        # Three direct chats, two people in a group, and one topic.
        assert len(ours) == 3 + 2 + 1, ours
        stored = set()
        for path in self.hermes.home.rglob("sessions.json"):
            stored |= {key for key in json.loads(path.read_text()) if key.startswith("agent:")}
        assert stored == ours, (stored, ours)
        print("   " + "\n   ".join(sorted(ours)), flush=True)

    def each_chat_is_one_session(self):
        names = set()
        for path in self.hermes.home.glob("state.db"):
            with sqlite3.connect(path) as store:
                names |= {row[0] for row in store.execute("select id from sessions")}
        assert len({name for name in names if name.startswith("hgw-")}) == CHATS, names


COMMON = [
    "what_comes_before_the_agent_waits",
    "the_agent_is_ready",
    *(["the_agent_is_away_for_long"] if AWAY else []),
    "the_agent_is_killed",
    "the_agent_is_told_to_end",
    "the_worker_is_killed",
    "the_supervisor_is_killed",
    "every_message_is_accepted_and_settled",
    "every_message_has_one_answer_in_order",
    "a_doubt_is_marked",
]
OWN = {"relay": ["session_keys_are_the_agents_own"], "openai": ["each_chat_is_one_session"]}
LAST = ["a_picture_reaches_the_model", "a_turn_is_stopped_and_the_conversation_goes_on"]


def judge(bench, world):
    for name in COMMON + OWN[bench.kind] + LAST:
        text = f"hermes {world}: {name.replace('_', ' ')}"
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
    for world in sys.argv[5:] or [f"{kind} {it}" for kind in OWN for it in platforms.PLATFORMS]:
        kind, platform = world.split()
        with tempfile.TemporaryDirectory(prefix="hgw") as directory:
            bench = Bench(pathlib.Path(directory), kind, platform)
            start = time.monotonic()
            try:
                failed += judge(bench, world)
            finally:
                bench.end()
            print(f"   {world}: {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
