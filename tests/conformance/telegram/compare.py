"""Measures hermes-gw beside the libraries that most bots are made of, in one run, and prints a table.

Usage: compare.py SIM_TELEGRAM HERMES_GW [ROW...] -- NAME JUDGE... -- NAME JUDGE...

ROW: a part of the name of a row; without any, all.

Each JUDGE is a command that takes BASE_URL TOKEN, and with ECHO=1 in its environment answers each text with the same text.
Times are seconds from the end of the trouble to the answer to a message that was sent then. What keeps the machine busy is
measured for one after the other, what is mostly waited for side by side. Takes about 13 minutes.
"""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contest  # noqa: E402
from process import Process  # noqa: E402

TOKEN = "7700:AAh4-judge_token-of-35-characters-xx"
START = 90
# Longer than this is given up.
PATIENCE = 100
# What chance has a hand in is done so often, and the mean told.
TIMES = 3
AGAIN = 6


class Gateway(contest.Gateway):
    """hermes-gw with its built-in echo."""

    def __init__(self, program, base_url):
        config = f'token_file = "secret"\nbase_url = "{base_url}"\naccess = {{ direct = "open" }}\n[agent.echo]\n'
        super().__init__(program, "telegram", TOKEN, config)

    def unknown(self):
        """Replies of which it said itself that nobody knows whether they arrived."""
        return self.status()["store"]["unknown"]

    def conflict(self):
        bot = self.status()
        return f"status: {bot.get('outside')}" + (" and what to do" if bot.get("remedy") else "")


class Judge(contest.Judge):
    """A library."""

    def __init__(self, command, base_url):
        super().__init__([*command, base_url, TOKEN])
        os.environ["ECHO"] = "1"

    def unknown(self):
        return 0

    def conflict(self):
        return "errors in its log" if self.is_alive() else "it has ended"


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


class Bench:
    """One platform and one contestant on it."""

    def __init__(self, simulator, make):
        self.sim = Process([simulator, "--bot", f"{TOKEN}=judge_bot"])
        self.contestant = make(self.sim.wait(START, seen="listening")["base_url"])
        self.count = 0

    def begin(self):
        self.contestant.start()
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
        found = [self.seconds()]
        self.revive()
        # Chance has a hand in when each asks next: long enough for every pause to be at its longest, and a bit.
        while len(found) < AGAIN and not isinstance(found[-1], str):
            found.append(self.trouble({"kind": "refuse", "code": 409, "description": description},
                                      25 + 5 * random.random()))
        never = next((it for it in found if isinstance(it, str)), None)
        return f"{told}, {polls} polls a minute, {never or shown(sum(found) / len(found))}"

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


# One contestant after the other.
BUSY = [
    ("memory, idle", "memory"),
    ("200 messages, killed after 130 answers: unanswered / answered twice", "killed"),
    ("10 answers at one a second", "limited"),
]
# All of them side by side.
WAITING = [
    ("5 s of silence on the line", "black_hole"),
    ("every connection cut, mean of 3", "cut"),
    ("5 s of 502, mean of 3", "pages"),
    ("45 s of 409, mean of 3", "conflict"),
    ("409 for ever: what people see, and after the rival has left, mean of 6", "endless_conflict"),
]


def main():
    everybody = contest.Contest(Gateway, Judge)
    busy, waiting = everybody.chosen(BUSY), everybody.chosen(WAITING)
    for name, make in everybody.contestants if busy else []:
        bench = Bench(everybody.simulator, make)
        try:
            bench.begin()
            everybody.measure(bench, name, busy)
        finally:
            bench.end()
    everybody.side_by_side([waiting], lambda _, make: Bench(everybody.simulator, make))
    everybody.print(busy + waiting)


if __name__ == "__main__":
    main()
