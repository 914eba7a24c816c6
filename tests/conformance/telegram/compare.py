"""Measures hermes-gw beside the libraries that most bots are made of, in one run, and prints a table.

Usage: compare.py SIM_TELEGRAM HERMES_GW [ROW...] -- NAME JUDGE... -- NAME JUDGE...

ROW: a part of the name of a row; without any, all.

Each JUDGE is a command that takes BASE_URL TOKEN, and with ECHO=1 in its environment answers each text with the same text.
Times are seconds from the end of the trouble to the answer to a message that was sent then. Takes a few minutes for each.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from process import Process  # noqa: E402

TOKEN = "7700:AAh4-judge_token-of-35-characters-xx"
START = 90
# Longer than this is given up.
PATIENCE = 100
# What chance has a hand in is done so often, and the mean told.
TIMES = 3


class Gateway:
    """hermes-gw with its built-in echo."""

    def __init__(self, program, base_url):
        self.program = program
        self.dir = tempfile.TemporaryDirectory(prefix="gw")
        self.path = lambda name: os.path.join(self.dir.name, name)
        with open(self.path("token"), "w") as file:
            file.write(TOKEN)
        with open(self.path("config.toml"), "w") as file:
            file.write(f'[platform.telegram]\ntoken_file = "token"\nbase_url = "{base_url}"\n'
                       'access = { direct = "open" }\n[agent.echo]\n')

    def start(self):
        with open(self.path("log"), "a") as log:
            self.process = subprocess.Popen(
                [self.program, "supervise", "--config", self.path("config.toml"), "--state-dir", self.path("s")],
                stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.terminate()
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def unknown(self):
        """Replies of which it said itself that nobody knows whether they arrived."""
        words = ["ctl", "status", "--json", "--config", self.path("config.toml"), "--state-dir", self.path("s")]
        told = json.loads(subprocess.run([self.program, *words], capture_output=True, check=True).stdout)
        return next(it["store"]["unknown"] for it in told["instances"] if it["name"] == "telegram")

    def conflict(self):
        words = ["ctl", "status", "--json", "--config", self.path("config.toml"), "--state-dir", self.path("s")]
        told = json.loads(subprocess.run([self.program, *words], capture_output=True, check=True).stdout)
        bot = next(it for it in told["instances"] if it["name"] == "telegram")
        return f"status: {bot.get('outside')}" + (" and what to do" if bot.get("remedy") else "")

    def memory(self):
        """Of all its processes, and of the one that speaks to the platform."""
        own = memory(self.process.pid)
        children = {pid: memory(pid) for pid in children_of(self.process.pid)}
        worker = max((pid for pid in children if b"telegram" in command_of(pid)), default=None)
        return f"{own + sum(children.values()):.0f} MiB (worker {children.get(worker, 0):.0f})"


class Judge:
    """A library."""

    def __init__(self, command, base_url):
        self.command = [*command, base_url, TOKEN]
        os.environ["ECHO"] = "1"

    def start(self):
        self.process = Process(self.command)

    def kill(self):
        self.process.process.kill()
        self.process.process.wait()

    def end(self):
        self.process.end()

    def is_alive(self):
        return self.process.process.poll() is None

    def unknown(self):
        return 0

    def conflict(self):
        return "errors in its log" if self.is_alive() else "it has ended"

    def memory(self):
        return f"{memory(self.process.process.pid):.0f} MiB"


def shown(found):
    return found if isinstance(found, str) else f"{found:.1f} s"


def mean(once):
    """Of several times, unless one of them never ends."""
    found = []
    for _ in range(TIMES):
        found.append(once())
        if isinstance(found[-1], str):
            return found[-1]
    return shown(sum(found) / len(found))


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def command_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Bench:
    """One platform and one contestant on it."""

    def __init__(self, simulator, make):
        self.sim = Process([simulator, "--bot", f"{TOKEN}=judge_bot"])
        self.contestant = make(self.sim.wait(START, seen="listening")["base_url"])
        self.contestant.start()
        self.count = 0
        self.sim.wait(START, seen="poll")
        self.answer_now()

    def end(self):
        self.contestant.end()
        self.sim.end()

    def ask(self, **command):
        start = len(self.sim.lines)
        self.sim.tell(**command)
        return self.sim.wait(START, start=start, did=command["do"])

    def push(self, user, text):
        self.ask(do="push_text", user=user, text=text)

    def sent(self):
        with self.sim.grown:
            return [line["text"] for line in self.sim.lines if line.get("seen") == "sent"]

    def answer_now(self):
        """How long until a message is answered that is sent now."""
        return shown(self.seconds())

    def seconds(self):
        self.count += 1
        text, began = f"now {self.count}", time.monotonic()
        self.push(5000 + self.count, text)
        try:
            self.sim.wait(PATIENCE, seen="sent", text=text)
        except AssertionError:
            return "never" if self.contestant.is_alive() else "never (ended)"
        return time.monotonic() - began

    def revive(self):
        if not self.contestant.is_alive():
            self.contestant.start()
            self.answer_now()

    # The rows.

    def memory(self):
        return self.contestant.memory()

    def killed(self):
        before = len(self.sent())
        for n in range(200):
            self.push(1000 + n, f"m{n}")
            if n == 150:
                # In the middle of the work on what was heard.
                self.until(lambda: len(self.sent()) - before >= 50)
        # An answer of the queue holds a hundred: within the second one.
        self.until(lambda: len(self.sent()) - before >= 130)
        self.contestant.kill()
        self.contestant.start()
        self.settle()
        texts = [text for text in self.sent() if text.startswith("m")]
        unknown = self.contestant.unknown()
        told = f" ({unknown} reported as unknown)" if unknown else ""
        return f"{200 - len(set(texts))} / {len(texts) - len(set(texts))}{told}"

    def black_hole(self):
        self.ask(do="open_hole")
        time.sleep(5)
        self.ask(do="close_hole")
        return self.answer_now()

    def cut(self):
        def once():
            self.ask(do="reset")
            return self.seconds()

        return mean(once)

    def pages(self):
        return mean(lambda: self.trouble({"kind": "html", "status": 502}, 5))

    def conflict(self):
        description = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        return mean(lambda: self.trouble({"kind": "refuse", "code": 409, "description": description}, 45))

    def endless_conflict(self):
        description = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        self.ask(do="fault", method="getUpdates", fault={"kind": "refuse", "code": 409, "description": description})
        time.sleep(60)
        before = self.sim.count(seen="call", method="getupdates")
        time.sleep(60)
        polls = self.sim.count(seen="call", method="getupdates") - before
        told = self.contestant.conflict()
        self.ask(do="clear")
        found = self.answer_now()
        self.revive()
        return f"{told}, {polls} polls a minute, {found}"

    def trouble(self, fault, seconds):
        self.ask(do="fault", method="getUpdates", fault=fault)
        time.sleep(seconds)
        self.ask(do="clear")
        found = self.seconds()
        self.revive()
        return found

    def limited(self):
        self.ask(do="limit", ms=1000, retry_after_s=2)
        calls = self.sim.count(seen="call", inside_window=True)
        for n in range(10):
            self.push(77, f"limited {n}")
        self.settle()
        answered = sum(text.startswith("limited") for text in self.sent())
        early = self.sim.count(seen="call", inside_window=True) - calls
        self.ask(do="limit", ms=0, retry_after_s=1)
        return f"{answered} answered, {early} early calls"

    def until(self, reached):
        end = time.monotonic() + PATIENCE
        while not reached() and time.monotonic() < end and self.contestant.is_alive():
            time.sleep(0.01)

    def settle(self):
        """Until nothing was sent for a while."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 12:
            if len(self.sent()) != last:
                last, since = len(self.sent()), time.monotonic()
            time.sleep(0.1)


ROWS = [
    ("memory, idle", "memory"),
    ("200 messages, killed after 130 answers: unanswered / answered twice", "killed"),
    ("5 s of silence on the line", "black_hole"),
    ("every connection cut, mean of 3", "cut"),
    ("5 s of 502, mean of 3", "pages"),
    ("45 s of 409, mean of 3", "conflict"),
    ("409 for ever: what people see, and after the rival has left", "endless_conflict"),
    ("10 answers at one a second", "limited"),
]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    simulator, program, *words = sys.argv[1:]
    wanted, words = words[:words.index("--")], words[words.index("--"):]
    contestants = [("hermes-gw", lambda url: Gateway(program, url))]
    while words:
        words = words[1:]
        end = words.index("--") if "--" in words else len(words)
        (name, *command), words = words[:end], words[end:]
        contestants.append((name, lambda url, command=command: Judge(command, url)))
    rows = [row for row in ROWS if not wanted or any(word in row[0] for word in wanted)]
    table = {row: [] for row, _ in rows}
    for name, make in contestants:
        bench = Bench(simulator, make)
        try:
            for row, act in rows:
                try:
                    found = getattr(bench, act)()
                except Exception as error:
                    found = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"{name}: {row}: {found}", file=sys.stderr, flush=True)
                table[row].append(found)
        finally:
            bench.end()
    print("| | " + " | ".join(name for name, _ in contestants) + " |")
    print("|---" * (len(contestants) + 1) + "|")
    for row, found in table.items():
        print(f"| {row} | " + " | ".join(found) + " |")


if __name__ == "__main__":
    main()
