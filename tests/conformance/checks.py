"""Runs the checks of each judge in their order, and prints `ok` or `FAIL` for each."""

import signal
import sys

from process import judges


def run(make, checks):
    """The command line is SIMULATOR NAME JUDGE... -- NAME JUDGE...

    `make` makes a bench of the simulator, a name and a command; its methods are the checks. Returns the exit code.
    """
    # Whoever stops this program stops the ones that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    simulator, *words = sys.argv[1:]
    passed = failed = 0
    for name, judge in judges(words):
        bench = make(simulator, name, judge)
        try:
            for check in checks:
                text = f"{name}: {check.replace('_', ' ')}"
                try:
                    getattr(bench, check)()
                except Exception as error:
                    failed += 1
                    print(f"FAIL {text}\n  {type(error).__name__}: {error}", flush=True)
                    if check == checks[0]:
                        print("  " + "  ".join(bench.judge.errors), flush=True)
                        failed += len(checks) - 1
                        break
                else:
                    passed += 1
                    print(f"ok   {text}", flush=True)
        finally:
            bench.end()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
