"""Measures hermes-gw beside the official SDKs on one simulated Feishu each, in one run, and prints a table.

Usage: compare.py SIM_FEISHU HERMES_GW [ROW...] -- NAME JUDGE... -- NAME JUDGE...

ROW: a part of the name of a row; without any, all.

Each JUDGE is a command that takes BASE_URL APP_ID APP_SECRET. The platform hands out its usual settings (reconnect after
120 s, spread over 30 s, ping after 120 s). hermes-gw has stored each event durably before it answers; the SDKs' handlers only
print, but where a row says that all store. All are served by the same program, which also takes the times: from its
sending of an event to its reading of the answer. What is fast is measured for one after the other, in rounds; what is waited
for side by side, in several places. Takes about 20 minutes.
"""

import collections
import json
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contest  # noqa: E402
from process import Process  # noqa: E402

APP = ("cli_a1b2c3d4e5f60718", "a-secret", "ou_bot")
START = 90
# Longer than this is not waited for.
PATIENCE = float(os.environ.get("PATIENCE", "120"))
# After an outage the SDKs sleep for 120 s and a part of 30 s.
OUTAGE_PATIENCE = PATIENCE + 80
RESETS = int(os.environ.get("RESETS", "20"))
# Bursts of each contestant; the median counts. Many short ones: a disk that others use stands still now and then.
ROUNDS = 11
# The platform's first repetition comes after 15 s.
ABSENCE = 20


class Gateway(contest.Gateway):
    """hermes-gw without an agent: what it hears is stored and waits."""

    def __init__(self, program, base_url):
        config = f'app_id = "{APP[0]}"\napp_secret_file = "secret"\nbase_url = "{base_url}"\naccess = {{ direct = "open" }}\n'
        super().__init__(program, "feishu", APP[1], config)

    def handled(self, _):
        """Events that are stored."""
        return self.status()["store"]["accepted"]

    def store(self):
        """Nothing is left to do: it has stored each event before it answers."""


class Judge(contest.Judge):
    """An SDK."""

    def __init__(self, command, base_url):
        super().__init__([*command, base_url, *APP[:2]])

    def store(self):
        """Its handler appends each event to a file and syncs that before it returns."""
        self.dir = tempfile.TemporaryDirectory(prefix="gw")
        self.command = ["env", f"JUDGE_SHELF={os.path.join(self.dir.name, 'shelf')}", *self.command]

    def handled(self, text):
        """How often the handler was run."""
        return self.process.count(said="message", text=text)


class Bench:
    """One platform and one contestant on it."""

    def __init__(self, simulator, make, *options):
        self.sim = Process([simulator, "--app", ":".join(APP), *options])
        self.number = 0
        self.contestant = make(self.sim.wait(START, seen="listening")["base_url"])

    def begin(self):
        self.started()

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

    def odd(self, text="in pieces: 多字节😀", **push):
        """What becomes of an event that comes like this."""
        self.number += 1
        text, event_id = f"{text} {self.number}", f"odd-{id(self)}-{self.number}"
        message = {"message_id": f"om_odd_{id(self)}_{self.number}", "create_time": str(int(time.time() * 1000)),
                   "chat_id": "oc_odd", "chat_type": "p2p", "message_type": "text",
                   "content": json.dumps({"text": text}, ensure_ascii=False)}
        sender = {"sender_id": {"open_id": "ou_user"}, "sender_type": "user", "tenant_key": "tenant"}
        event = {"schema": "2.0", "header": {"event_id": event_id, "event_type": "im.message.receive_v1",
                                             "create_time": message["create_time"], "app_id": APP[0]},
                 "event": {"sender": sender, "message": message}}
        before = self.contestant.handled(text)
        start = len(self.sim.lines)
        self.sim.tell(do="push_event", event=event, push=push)
        try:
            code = self.sim.wait(12, start=start, seen="answered", event_id=event_id)["code"]
            said = "answered" if code == 200 else f"refused ({code})"
        except AssertionError:
            said = "not answered"
        time.sleep(0.5)
        times = self.contestant.handled(text) - before
        handled = {0: "not handled", 1: "handled once", 2: "handled twice"}
        return f"{said}, {handled.get(times, f'handled {times} times')}"

    def gap_row(self):
        return self.odd(parts=3, gap_ms=3000)

    def order_row(self):
        return self.odd(parts=3, order=[2, 0, 1])

    def repeated_row(self):
        return self.odd(parts=3, repeat_last=True)

    def character_row(self):
        return self.odd(within=["字", "😀"])

    def trace_row(self):
        return self.odd(omit=["trace_id"])

    def sum_row(self):
        return self.odd(omit=["sum"])

    def id_row(self):
        return self.odd(omit=["message_id"])

    def nonsense_row(self):
        before = self.opened()
        self.ask(do="send_text", text="hello")
        self.ask(do="send_odd")
        found = self.odd()
        lives = "the connection stays" if self.opened() == before else "connects anew"
        return f"{lives}; the next event {found}"

    def absent_row(self):
        """Said while it was away, and never told again."""
        self.odd()
        time.sleep(2)
        self.contestant.end()
        time.sleep(1)
        for _ in range(5):
            self.sim.tell(do="push_text", chat="oc_odd", sender="ou_user", text="away")
        time.sleep(ABSENCE)
        self.started()
        time.sleep(15)
        # A new process counts from its start.
        return f"{self.contestant.handled('away')} of 5"

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
        return at(0.5), at(0.99), lost

    def paced_row(self):
        return self.burst(500, 200)

    def flat_row(self):
        return self.burst(3000, 0)

    def warm(self):
        """Nobody's first events count."""
        self.burst(400, 200)

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


# One after the other.
FAST = [
    ("start of the process → connected, median of 3", "start_row"),
    ("memory, idle", "memory_row"),
]
# In rounds: of each the median.
ROUNDED = [
    ("answer at 200 events/s, 500 events: p50 / p99", "paced_row"),
    ("answer to 3 000 events at once: p50 / p99", "flat_row"),
]
# The same, and whoever does not store of its own accord is made to.
STORED = [
    ("… at 200 events/s, if all store each event first", "paced_row"),
    ("… to 3 000 at once, if all store each event first", "flat_row"),
]
# Side by side, each list in its own order.
SLOW = [
    [("reset (RST) → connected", "reset_row")],
    [
        ("end without a word (FIN, 1006) → connected", "fin_row"),
        ("close 1000 → connected", "close_1000_row"),
        ("close 1011 → connected", "close_1011_row"),
        ("end of 31 s of 503 → connected", "outage_row"),
    ],
    [
        ("black hole → connected", "hole_row"),
        ("pongs missing, nothing else → connected", "pongs_row"),
        ("reset, and the discovery hangs → connected", "discovery_row"),
        ("reset, and the handshake hangs → connected", "handshake_row"),
    ],
    [
        ("an event in three parts, 3 s apart", "gap_row"),
        ("… out of order", "order_row"),
        ("… the last one repeated", "repeated_row"),
        ("… cut within characters", "character_row"),
        ("an event without trace_id", "trace_row"),
        ("… without sum", "sum_row"),
        ("… without message_id", "id_row"),
        ("a text frame, garbage, an unknown method", "nonsense_row"),
        ("5 messages said during an absence, told no more", "absent_row"),
    ],
]


def rounds(everybody, benches, row, act):
    """By turns, so that what else the machine does meets all alike."""
    found = collections.defaultdict(list)
    for _ in range(ROUNDS):
        for name, bench in benches:
            found[name].append(getattr(bench, act)())
    for name, bursts in found.items():
        middle, tail, lost = zip(*bursts)
        told = f"{statistics.median(middle):.1f} / {statistics.median(tail):.1f} ms{max(lost, key=len)}"
        everybody.note(name, row, told, f" of {bursts}")


def in_turn(everybody, first, rounded, store):
    """Rows beside which nothing else is measured: of each contestant the `first`, then the `rounded` by turns."""
    benches = []
    try:
        for name, make in everybody.contestants if first or rounded else []:
            bench = Bench(everybody.simulator, make)
            benches.append((name, bench))
            if store:
                bench.contestant.store()
            everybody.measure(bench, name, first)
            if not any(act == "start_row" for _, act in first):
                bench.begin()
        for _, bench in benches if rounded else []:
            bench.warm()
        for row, act in rounded:
            rounds(everybody, benches, row, act)
    finally:
        for _, bench in benches:
            bench.end()


def main():
    everybody = contest.Contest(Gateway, Judge)
    fast, rounded, stored = everybody.chosen(FAST), everybody.chosen(ROUNDED), everybody.chosen(STORED)
    slow = [everybody.chosen(rows) for rows in SLOW]
    in_turn(everybody, fast, rounded, store=False)
    in_turn(everybody, [], stored, store=True)

    def prepared(rows, make):
        # What an absence costs shows where the platform says nothing twice.
        options = ["--repush-scale", "1000"] if any(act == "absent_row" for _, act in rows) else []
        return Bench(everybody.simulator, make, *options)

    everybody.side_by_side(slow, prepared)
    everybody.print(fast + rounded + stored + sum(slow, []))


if __name__ == "__main__":
    main()
