"""A contest: hermes-gw and other programs, each on a simulated platform of its own, row by row of a table."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

from process import Process, judges


class Gateway:
    """hermes-gw with one platform, which the name of its kind names too."""

    def __init__(self, program, platform, secret, config):
        """`config` is the file without the table's head; its secret is in a file called `secret`."""
        self.program, self.platform = program, platform
        self.dir = tempfile.TemporaryDirectory(prefix="gw")
        with open(self.path("secret"), "w") as file:
            file.write(secret)
        with open(self.path("config.toml"), "w") as file:
            file.write(f"[platform.{platform}]\n{config}")

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def words(self, *words):
        return [self.program, *words, "--config", self.path("config.toml"), "--state-dir", self.path("s")]

    def start(self):
        with open(self.path("log"), "a") as log:
            self.process = subprocess.Popen(self.words("supervise"), stdout=log, stderr=log)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def status(self):
        """What it says of the platform."""
        told = subprocess.run(self.words("ctl", "status", "--json"), capture_output=True, check=True).stdout
        return next(it for it in json.loads(told)["instances"] if it["name"] == self.platform)

    def memory(self):
        """Of all its processes, and of the one that speaks to the platform."""
        own = memory(self.process.pid)
        children = {pid: memory(pid) for pid in children_of(self.process.pid)}
        worker = max((pid for pid in children if self.platform.encode() in command_of(pid)), default=None)
        return f"{own + sum(children.values()):.0f} MiB (worker {children.get(worker, 0):.0f})"


class Judge:
    """A bot made of somebody else's library."""

    def __init__(self, command):
        self.command = command

    def start(self):
        self.process = Process(self.command)

    def end(self):
        self.process.end()

    def kill(self):
        self.process.process.kill()
        self.process.process.wait()

    def is_alive(self):
        return self.process.process.poll() is None

    def memory(self):
        return f"{memory(self.process.process.pid):.0f} MiB"


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def command_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Contest:
    """Who takes part, and what was found."""

    def __init__(self, gateway, judge):
        """The command line is SIMULATOR HERMES_GW [ROW...] -- NAME JUDGE... -- NAME JUDGE...

        `gateway` makes a contestant of the program and a platform's base URL, `judge` one of a command and that.
        """
        # Whoever stops this program stops the ones that it started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.simulator, program, *words = sys.argv[1:]
        end = words.index("--") if "--" in words else len(words)
        self.wanted = words[:end]
        self.contestants = [("hermes-gw", lambda url: gateway(program, url))]
        for name, command in judges(words[end + 1:]):
            self.contestants.append((name, lambda url, command=command: judge(command, url)))
        self.table = {name: {} for name, _ in self.contestants}

    def chosen(self, rows):
        """Those of these rows whose names have one of the wanted words, or all."""
        return [row for row in rows if not self.wanted or any(word in row[0] for word in self.wanted)]

    def note(self, name, row, found, more=""):
        self.table[name][row] = found
        print(f"{name}: {row}: {found}{more}", file=sys.stderr, flush=True)

    def measure(self, bench, name, rows):
        """Each row is its name and that of a method of the bench."""
        for row, act in rows:
            try:
                found = getattr(bench, act)()
            except Exception as error:
                found = f"{type(error).__name__}: {error}".splitlines()[0]
            self.note(name, row, found)

    def side_by_side(self, lists, make):
        """Measures all lists of rows at once, each on benches that `make` makes of the rows and a contestant."""
        benches, threads = [], []
        try:
            for rows in filter(None, lists):
                for name, contestant in self.contestants:
                    benches.append(make(rows, contestant))
                    benches[-1].begin()
                    threads.append(threading.Thread(target=self.measure, args=(benches[-1], name, rows)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for bench in benches:
                bench.end()

    def print(self, rows):
        print("| | " + " | ".join(name for name, _ in self.contestants) + " |")
        print("|---" * (len(self.contestants) + 1) + "|")
        for row, _ in rows:
            print(f"| {row} | " + " | ".join(self.table[name].get(row, "") for name, _ in self.contestants) + " |")
