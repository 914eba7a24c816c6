"""A program under test whose stdout is JSON lines."""

import collections
import json
import os
import subprocess
import threading
import time


def judges(words):
    """The names and commands in NAME WORD... -- NAME WORD..."""
    found = []
    while words:
        end = words.index("--") if "--" in words else len(words)
        (name, *command), words = words[:end], words[end + 1:]
        found.append((name, command))
    return found


class Process:
    """A program whose stdout is JSON lines, kept in order and waited for."""

    def __init__(self, command):
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment["NO_PROXY"] = "127.0.0.1"
        self.lines = []
        self.grown = threading.Condition()
        self.errors = collections.deque(maxlen=40)
        self.process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                entry = json.loads(line)
            except ValueError:
                # SDKs write their logs here, too.
                self.errors.append(line)
                continue
            with self.grown:
                self.lines.append(entry)
                self.grown.notify_all()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def wait(self, limit, start=0, **members):
        """The first line from `start` on that has these members."""
        deadline = time.monotonic() + limit
        with self.grown:
            while True:
                for line in self.lines[start:]:
                    if all(key in line and line[key] == value for key, value in members.items()):
                        return line
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = "\n    ".join(json.dumps(line) for line in self.lines[-25:])
                    raise AssertionError(f"nothing like {members} within {limit} s; last:\n    {seen}")
                self.grown.wait(left)

    def count(self, **members):
        with self.grown:
            return sum(all(line.get(key) == value for key, value in members.items())
                       for line in self.lines)

    def wait_count(self, limit, count, **members):
        deadline = time.monotonic() + limit
        with self.grown:
            while sum(all(line.get(k) == v for k, v in members.items()) for line in self.lines) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"fewer than {count} of {members} within {limit} s"
                self.grown.wait(left)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
