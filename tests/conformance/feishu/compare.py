"""Measures hermes-gw beside the official SDKs on one simulated Feishu each, in one run, and prints a table.

Usage: compare.py SIM_FEISHU HERMES_GW -- NAME JUDGE... -- NAME JUDGE...

Each JUDGE is a command that takes BASE_URL APP_ID APP_SECRET. The platform hands out its usual settings (reconnect after
120 s, spread over 30 s, ping after 120 s). hermes-gw has stored each event durably before it answers; the SDKs' handlers only
print. What is fast is measured one after the other, what is waited for side by side. Takes about 20 minutes.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from process import Process  # noqa: E402

APP = ("cli_a1b2c3d4e5f60718", "a-secret", "ou_bot")
START = 90
# Longer than this is not waited for.
PATIENCE = float(os.environ.get("PATIENCE", "120"))
# After an outage the SDKs sleep for 120 s and a part of 30 s.
OUTAGE_PATIENCE = PATIENCE + 80
RESETS = int(os.environ.get("RESETS", "20"))


class Gateway:
    """hermes-gw without an agent: what it hears is stored and waits."""

    def __init__(self, program, base_url):
        self.program = program
        self.dir = tempfile.TemporaryDirectory(prefix="gw")
        self.path = lambda name: os.path.join(self.dir.name, name)
        with open(self.path("secret"), "w") as file:
            file.write(APP[1])
        with open(self.path("config.toml"), "w") as file:
            file.write(f'[platform.feishu]\napp_id = "{APP[0]}"\napp_secret_file = "secret"\n'
                       f'base_url = "{base_url}"\naccess = {{ direct = "open" }}\n')

    def start(self):
        with open(self.path("log"), "a") as log:
            self.process = subprocess.Popen(
                [self.program, "supervise", "--config", self.path("config.toml"), "--state-dir", self.path("s")],
                stdout=log, stderr=log)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def memory(self):
        own = memory(self.process.pid)
        children = [memory(pid) for pid in children_of(self.process.pid)]
        return f"{own + sum(children):.0f} MiB (worker {max(children, default=0):.0f})"


class Judge:
    """An SDK."""

    def __init__(self, command, base_url):
        self.command = [*command, base_url, *APP[:2]]

    def start(self):
        self.process = Process(self.command)

    def end(self):
        self.process.end()

    def memory(self):
        return f"{memory(self.process.process.pid):.0f} MiB"


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Bench:
    """One platform and one contestant on it."""

    def __init__(self, simulator, make):
        self.sim = Process([simulator, "--app", ":".join(APP)])
        self.contestant = make(self.sim.wait(START, seen="listening")["base_url"])

    def end(self):
        self.contestant.end()
        self.sim.end()

    def ask(self, **command):
        start = len(self.sim.lines)
        self.sim.tell(**command)
        return self.sim.wait(START, start=start, did=command["do"])

    def opened(self):
        return self.sim.count(seen="opened")

    def started(self):
        """Seconds from the start of the process to the open connection."""
        before, began = self.opened(), time.monotonic()
        self.contestant.start()
        self.sim.wait_count(START, before + 1, seen="opened")
        return time.monotonic() - began

    def until_opened(self, before, began, patience=None):
        try:
            self.sim.wait_count(patience or PATIENCE, before + 1, seen="opened")
        except AssertionError:
            return None
        return time.monotonic() - began

    def settled(self):
        """A connection that answers, by a new start if need be; then nothing is under way."""
        self.ask(do="clear")
        before = len(self.sim.lines)
        self.sim.tell(do="burst", count=1, per_second=0)
        try:
            self.sim.wait(5, start=before, seen="answered", code=200)
        except AssertionError:
            self.contestant.end()
            self.ask(do="reset")
            self.started()
        # It counts as a good connection only after a while.
        time.sleep(4)

    # The rows.

    def start_row(self):
        found = []
        for _ in range(3):
            found.append(self.started())
            self.contestant.end()
        self.started()
        return f"{statistics.median(found):.2f} s"

    def memory_row(self):
        time.sleep(3)
        return self.contestant.memory()

    def burst(self, count, per_second):
        start = len(self.sim.lines)
        self.sim.tell(do="burst", count=count, per_second=per_second)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with self.sim.grown:
                told = [it for it in self.sim.lines[start:] if it.get("seen") == "answered" and it["code"] == 200]
            if len({it["event_id"] for it in told}) >= count:
                break
            time.sleep(0.05)
        took = sorted(it["latency_ms"] for it in told)
        late = sum(it["late"] for it in told)
        missing = count - len({it["event_id"] for it in told if not it["late"]})
        at = lambda share: took[min(len(took) - 1, int(len(took) * share))] if took else float("nan")
        lost = f", {max(late, missing)} not in time" if late or missing > 0 else ""
        return f"{at(0.5):.1f} / {at(0.99):.1f} ms{lost}"

    def paced_row(self):
        return self.burst(2000, 200)

    def flat_row(self):
        return self.burst(3000, 0)

    def again(self, times, *commands):
        found = []
        for _ in range(times):
            self.settled()
            for command in commands[:-1]:
                self.ask(**command)
            before, began = self.opened(), time.monotonic()
            self.ask(**commands[-1])
            found.append(self.until_opened(before, began))
        return spread(found)

    def reset_row(self):
        return self.again(RESETS, {"do": "reset"})

    def fin_row(self):
        return self.again(3, {"do": "drop"})

    def close_1000_row(self):
        return self.again(3, {"do": "close", "code": 1000})

    def close_1011_row(self):
        return self.again(3, {"do": "close", "code": 1011})

    def outage_row(self):
        self.settled()
        self.ask(do="fault", fault={"kind": "discovery_status", "status": 503, "body": "<html>"})
        self.ask(do="drop")
        time.sleep(31)
        before, began = self.opened(), time.monotonic()
        self.ask(do="clear")
        return spread([self.until_opened(before, began, OUTAGE_PATIENCE)], OUTAGE_PATIENCE)

    def hole_row(self):
        return self.again(2, {"do": "hold"})

    def pongs_row(self):
        self.settled()
        before, began = self.opened(), time.monotonic()
        self.ask(do="fault", fault={"kind": "no_pongs"})
        found = self.until_opened(before, began)
        self.ask(do="clear")
        return spread([found])

    def discovery_row(self):
        return self.again(1, {"do": "fault", "fault": {"kind": "discovery_hang"}, "times": 1}, {"do": "reset"})

    def handshake_row(self):
        return self.again(1, {"do": "fault", "fault": {"kind": "handshake_hang"}, "times": 1}, {"do": "reset"})


def spread(found, patience=PATIENCE):
    good = sorted(it for it in found if it is not None)
    never = f"not within {patience:.0f} s"
    if not good:
        return never
    lost = f", {len(found) - len(good)} × {never}" if len(good) < len(found) else ""
    if len(found) == 1:
        return f"{good[0]:.1f} s"
    return f"{statistics.median(good):.2f} s, at most {good[-1]:.2f} s{lost} (n = {len(found)})"


FAST = [
    ("start of the process → connected, median of 3", "start_row"),
    ("memory, idle", "memory_row"),
    ("answer at 200 events/s, 2 000 events: p50 / p99", "paced_row"),
    ("answer to 3 000 events at once: p50 / p99", "flat_row"),
]
SLOW = [
    ("reset (RST) → connected", "reset_row"),
    ("end without a word (FIN, 1006) → connected", "fin_row"),
    ("close 1000 → connected", "close_1000_row"),
    ("close 1011 → connected", "close_1011_row"),
    ("end of 31 s of 503 → connected", "outage_row"),
    ("black hole → connected", "hole_row"),
    ("pongs missing, nothing else → connected", "pongs_row"),
    ("reset, and the discovery hangs → connected", "discovery_row"),
    ("reset, and the handshake hangs → connected", "handshake_row"),
]


def measure(bench, name, rows, found):
    for row, act in rows:
        try:
            found[row] = getattr(bench, act)()
        except Exception as error:
            found[row] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{name}: {row}: {found[row]}", file=sys.stderr, flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    simulator, program, *words = sys.argv[1:]
    contestants = [("hermes-gw", lambda url: Gateway(program, url))]
    while words:
        words = words[1:]
        end = words.index("--") if "--" in words else len(words)
        (name, *command), words = words[:end], words[end:]
        contestants.append((name, lambda url, command=command: Judge(command, url)))
    table = {name: {} for name, _ in contestants}
    for name, make in contestants:
        bench = Bench(simulator, make)
        try:
            measure(bench, name, FAST, table[name])
        finally:
            bench.end()
    benches = [(name, Bench(simulator, make)) for name, make in contestants]
    try:
        for _, bench in benches:
            bench.started()
        threads = [threading.Thread(target=measure, args=(bench, name, SLOW, table[name])) for name, bench in benches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for _, bench in benches:
            bench.end()
    print("| | " + " | ".join(name for name, _ in contestants) + " |")
    print("|---" * (len(contestants) + 1) + "|")
    for row, _ in FAST + SLOW:
        print(f"| {row} | " + " | ".join(table[name].get(row, "") for name, _ in contestants) + " |")


if __name__ == "__main__":
    main()
