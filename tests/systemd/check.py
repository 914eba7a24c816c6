"""Boots systemd in namespaces of its own, runs the shipped unit in it and prints `ok` or `FAIL` for each check.

Usage: check.py PROGRAM CGROUP2_MOUNT

The directories that systemd cleans at boot are private before it starts; it starts a target of ours and nothing else.
"""

import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ASSETS = os.path.join(HERE, "../../supervisor/assets")
PROGRAM, GROUPS = os.path.abspath(sys.argv[1]), sys.argv[2]
UNIT = "hermes-gw"
PATIENCE = 20

CONFIG = """
[platform.local]
agent = "echo"
[platform.other]
kind = "local"
agent = "slow"
[agent.echo]
[agent.slow]
kind = "socket"
"""

BOOT = """
set -e
mount -t proc proc /proc
for dir in /run /tmp /var/lib /var/log; do mount -t tmpfs tmpfs $dir; done
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
mount -t tmpfs tmpfs /etc/systemd/system
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /usr/local/bin
touch /usr/local/bin/hermes-gw && mount --bind "$0" /usr/local/bin/hermes-gw
printf '[Unit]\\nDescription=nothing but what the test starts\\n' > /etc/systemd/system/test.target
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --system --unit=test.target --log-target=null
"""

# An agent that takes an event and never says anything again.
AGENT = """
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
for n, method in enumerate(("initialize", "ready")):
    s.sendall((json.dumps({"jsonrpc": "2.0", "id": n, "method": method, "params": {}}) + "\\n").encode())
for line in s.makefile():
    if "event.deliver" in line:
        print("taken", flush=True)
"""

failed = []


def check(what, good, detail=""):
    print(f"{'ok  ' if good else 'FAIL'} {what}{'' if good else f': {detail}'}", flush=True)
    if not good:
        failed.append(what)


def until(what, look, within=PATIENCE):
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    check(what, False, f"not within {within} s; {show()}")
    return None


class Machine:
    """The namespaces and the systemd in them."""

    def __init__(self):
        self.group = os.path.join(GROUPS, f"hermes-gw-systemd-{os.getpid()}")
        os.mkdir(self.group)
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--propagation",
                   "private", "bash", "-c", BOOT, PROGRAM]

        def join():
            with open(os.path.join(self.group, "cgroup.procs"), "w") as procs:
                procs.write("0")

        self.outer = subprocess.Popen(command, preexec_fn=join, stdin=subprocess.DEVNULL)
        children = f"/proc/{self.outer.pid}/task/{self.outer.pid}/children"
        while not (text := open(children).read().split()):
            time.sleep(0.01)
        self.pid = text[0]

    def run(self, *command, **options):
        enter = ["nsenter", "--target", self.pid, "--all", "--"]
        options = {"text": True, "capture_output": True, "stdin": subprocess.DEVNULL, "timeout": PATIENCE, **options}
        return subprocess.run([*enter, *command], **options)

    def popen(self, *command, **options):
        return subprocess.Popen(["nsenter", "--target", self.pid, "--all", "--", *command], text=True, **options)

    def write(self, path, text):
        self.run("mkdir", "-p", os.path.dirname(path))
        done = self.run("tee", path, input=text, stdin=None)
        assert done.returncode == 0, done.stderr

    def end(self):
        self.outer.kill()
        self.outer.wait()
        for _ in range(500):
            try:
                for path, _, _ in os.walk(self.group, topdown=False):
                    os.rmdir(path)
                return
            except OSError:
                time.sleep(0.02)


def ctl(*words):
    return machine.run("systemctl", *words)


def show(unit=UNIT):
    names = "ActiveState,SubState,Result,MainPID,NRestarts,StatusText,ExecMainStatus,ControlGroup"
    lines = ctl("show", f"--property={names}", unit).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def is_state(state, **members):
    def look():
        shown = show()
        return shown if shown["ActiveState"] == state and all(shown[k] == v for k, v in members.items()) else None

    return look


def serving(other_than=None):
    """Active, all workers ready, and not the process that was."""
    def look():
        shown = show()
        if shown["ActiveState"] != "active" or shown["MainPID"] in ("0", other_than):
            return None
        return shown if all(i["phase"] == "ready" for i in status().get("instances", [{"phase": ""}])) else None

    return until("it serves", look)


def gateway(*words, **options):
    return machine.run("/usr/local/bin/hermes-gw", "--state-dir", "/var/lib/hermes-gw", *words, **options)


def status():
    try:
        return json.loads(gateway("ctl", "status", "--json").stdout)
    except ValueError:
        return {}


def drop_in(text, unit=UNIT):
    machine.write(f"/etc/systemd/system/{unit}.service.d/test.conf",
                  f"[Service]\nEnvironment=HERMES_GW_CONFIG=/run/gw/config.toml\n{text}\n")
    ctl("daemon-reload")


def kill(signal_name, pid):
    return machine.run("kill", f"-{signal_name}", str(pid))


def members(shown):
    """The processes in the unit's control group, and those in each group below it."""
    root = f"/sys/fs/cgroup{shown['ControlGroup']}"
    script = f"cd {root} && for d in . worker-*; do echo $d $(cat $d/cgroup.procs); done"
    lines = machine.run("sh", "-c", script).stdout.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def stays(state, seconds=4):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if show()["ActiveState"] != state:
            return False
        time.sleep(0.2)
    return True


def starts_and_stops():
    done = ctl("start", UNIT)
    check("systemctl start returns when it serves", done.returncode == 0, done.stderr)
    shown = serving()
    check("it tells how it is", until("serving", lambda: show()["StatusText"].startswith("serving: ")))
    groups = members(shown)
    pids = {str(i["pid"]) for i in status()["instances"]}
    own = {pid for name, procs in groups.items() if name != "." for pid in procs}
    check("each worker is in a control group of its own", own == pids and len(groups) == len(pids) + 1, groups)
    # Soon after the start it asks systemctl for the limit of stopping, which is a process beside it for a moment.
    check("the supervisor alone is in the unit's", until("it is alone", lambda: members(shown)["."] == [shown["MainPID"]]))

    # A process that has nothing in common with its worker but the control group.
    local = next(i for i in status()["instances"] if i["name"] == "local")
    stranger = machine.popen("sh", "-c", f"echo $$ > /sys/fs/cgroup{shown['ControlGroup']}/worker-local-1/cgroup.procs; "
                             "trap '' TERM; while :; do sleep 600; done")
    until("it has joined", lambda: len(members(shown).get("worker-local-1", [])) > 2)
    check("restart --force succeeds", gateway("ctl", "restart", "local", "--force").returncode == 0)
    check("cgroup.kill ends what shares only the group", stranger.wait(PATIENCE) != 0)
    def moved():
        now = members(shown)
        return "worker-local-1" not in now and "worker-local-2" in now

    check("the empty group is removed", until("the old group is gone, the new one is there", moved))
    check("its process is another", next(i for i in status()["instances"] if i["name"] == "local")["pid"] != local["pid"])

    begun = time.monotonic()
    check("systemctl stop", ctl("stop", UNIT).returncode == 0)
    shown = show()
    check("a stop ends well", (shown["ActiveState"], shown["Result"]) == ("inactive", "success"), shown)
    check("and soon", time.monotonic() - begun < 10, time.monotonic() - begun)
    check("and it stays down", stays("inactive"), show())
    check("nothing is left", not machine.run("pgrep", "-f", "hermes-gw|/proc/self/exe").stdout)


def the_matrix():
    ctl("start", UNIT)
    before = serving()
    check("systemctl restart", ctl("restart", UNIT).returncode == 0)
    shown = serving(before["MainPID"])
    check("restarted by the manager: serves again, not counted", shown["NRestarts"] == "0", shown)

    for name in ("TERM", "INT", "KILL", "ABRT"):
        before = serving()
        begun = time.monotonic()
        kill(name, before["MainPID"])
        shown = serving(before["MainPID"])
        took = time.monotonic() - begun
        check(f"{name} from a stranger: up again within 5 s", took < 5 + 2, f"{took:.1f} s {shown}")

    before = serving()
    machine.run("sh", "-c", f"kill -TERM {before['MainPID']}; kill -TERM {before['MainPID']}")
    check("TERM twice from a stranger, while draining: up again", serving(before["MainPID"]))

    ctl("stop", UNIT)
    ctl("start", "--no-block", UNIT)
    pid = until("it is starting", lambda: (s := show())["MainPID"] != "0" and s["MainPID"])
    kill("TERM", pid)
    check("TERM from a stranger while starting: up again", serving())

    done = gateway("ctl", "kill")
    check("ctl kill succeeds", done.returncode == 0, done.stderr)
    until("it is down", is_state("inactive", Result="success"))
    check("ctl kill: stays down, and not failed", stays("inactive"), show())


def a_reload():
    ctl("start", UNIT)
    before = serving()
    pids = {i["name"]: i["pid"] for i in status()["instances"]}
    machine.write("/run/gw/config.toml", CONFIG + "lease_s = 7\n")
    check("systemctl reload", ctl("reload", UNIT).returncode == 0)
    until("the changed instance is another process", lambda: {i["name"]: i["pid"] for i in status()["instances"]}["slow"]
          not in (pids["slow"], None))
    shown = serving()
    now = {i["name"]: i["pid"] for i in status()["instances"]}
    check("the supervisor and the others are the same", shown["MainPID"] == before["MainPID"]
          and all(now[name] == pids[name] for name in pids if name != "slow"), (pids, now))
    machine.write("/run/gw/config.toml", "[platform\n")
    ctl("reload", UNIT)
    until("it says so", lambda: "was not reloaded" in machine.run("journalctl", "--no-pager", "-u", UNIT).stdout)
    shown = serving()
    check("a wrong file changes nothing", shown["MainPID"] == before["MainPID"], shown)
    machine.write("/run/gw/config.toml", CONFIG)
    ctl("stop", UNIT)


def a_wrong_configuration():
    machine.write("/run/gw/config.toml", "[platform\n")
    ctl("start", UNIT)
    until("it has failed", is_state("failed", ExecMainStatus="78"))
    check("a wrong configuration: failed with 78, not restarted", stays("failed"), show())
    machine.write("/run/gw/config.toml", CONFIG)
    check("mended, start works at once", ctl("start", UNIT).returncode == 0 and serving())
    ctl("stop", UNIT)


def the_watchdog():
    drop_in("WatchdogSec=2")
    ctl("start", UNIT)
    before = serving()
    time.sleep(5)
    check("a healthy loop is left alone for many intervals", show()["MainPID"] == before["MainPID"], show())
    kill("STOP", before["MainPID"])
    begun = time.monotonic()
    shown = serving(before["MainPID"])
    check("a loop that stands still is replaced", shown and shown["NRestarts"] == "1", shown)
    print(f"     after {time.monotonic() - begun:.1f} s, with an interval of 2 s")
    ctl("stop", UNIT)


def the_stop_limit():
    for limit in (5, 8):
        drop_in(f"TimeoutStopSec={limit}\nDynamicUser=no\nEnvironment=HERMES_GW_CONFIG=/run/gw/config.toml")
        ctl("start", UNIT)
        serving()
        agent = machine.popen("python3", "-c", AGENT, "/run/hermes-gw/agent-slow.sock", stdout=subprocess.PIPE)
        text = {"stdin": None, "input": f"work that never ends {limit}\n"}
        chat = machine.popen("/usr/local/bin/hermes-gw", "--state-dir", "/var/lib/hermes-gw", "chat", "--instance", "other",
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        chat.stdin.write(text["input"])
        chat.stdin.flush()
        check("the agent has taken an event", agent.stdout.readline().strip() == "taken")
        begun = time.monotonic()
        ctl("stop", UNIT)
        took = time.monotonic() - begun
        shown = show()
        good = shown["Result"] == "success" and shown["ExecMainStatus"] == "0" and took < limit - 1
        check(f"work that never ends, a limit of {limit} s: it leaves by itself", good, f"{took:.1f} s {shown}")
        print(f"     after {took:.1f} s")
        chat.kill()
        agent.kill()
        ctl("start", UNIT)
        serving()
        waiting = next(i for i in status()["instances"] if i["name"] == "other")["store"]["waiting"]
        check("and the event waits", waiting >= 1, waiting)
        ctl("stop", UNIT)


def two_managers():
    drop_in("DynamicUser=no")
    unit = open(os.path.join(ASSETS, f"{UNIT}.service")).read()
    machine.write("/etc/systemd/system/second.service", unit)
    drop_in("DynamicUser=no", unit="second")
    ctl("start", UNIT)
    first = serving()
    ctl("start", "--no-block", "second")
    waits = until("the second waits", lambda: (s := show("second"))["StatusText"].startswith("waiting for") and s)
    check("it says for whom", f"pid {first['MainPID']}" in waits["StatusText"], waits)
    signals = ("kill", "tkill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo")
    tracer = machine.popen("strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={','.join(signals)}", "-o", "/run/gw/signals",
                           "-p", first["MainPID"], "-p", waits["MainPID"])
    until("both are traced", lambda: machine.run("grep", "-L", "TracerPid:.0", *(
        f"/proc/{one['MainPID']}/status" for one in (first, waits))).stdout.count("status") == 2)
    end = time.monotonic() + 60
    calm = True
    while time.monotonic() < end and calm:
        one, two = show(), show("second")
        calm = (one["MainPID"] == first["MainPID"] and two["MainPID"] == waits["MainPID"]
                and (one["ActiveState"], two["ActiveState"]) == ("active", "activating"))
        time.sleep(1)
    check("for a minute one serves and the other waits", calm, (show(), show("second")))
    tracer.terminate()
    tracer.wait(PATIENCE)
    sent = machine.run("cat", "/run/gw/signals").stdout
    check("and none of them signals anybody", sent == "", sent)
    journal = machine.run("cat", "/var/lib/hermes-gw/journal.jsonl").stdout.splitlines()
    last = [json.loads(line) for line in journal if '"supervisor"' in line][-1]
    check("nobody asked anybody to leave", last["now"] == "started", last)
    ctl("stop", UNIT)
    until("the second serves", lambda: show("second")["ActiveState"] == "active")
    check("as soon as the first has left", show("second")["MainPID"] == waits["MainPID"], show("second"))
    ctl("stop", "second")


def the_command():
    """`hermes-gw service`, and `ctl` that finds what it has installed."""
    unit = f"/etc/systemd/system/{UNIT}.service"
    machine.run("rm", "-rf", unit, f"{unit}.d", "/etc/systemd/system/second.service", "/etc/systemd/system/second.service.d")
    ctl("daemon-reload")
    bare = ("/usr/local/bin/hermes-gw",)

    def say(*words):
        done = machine.run(*bare, "service", *words)
        return done.returncode, done.stdout + done.stderr

    code, said = say("status")
    check("without a unit its status says so", code == 69 and "not installed" in said and "service install" in said, said)
    check("nothing to take away is no error", say("uninstall")[0] == 0)

    machine.run("cp", "/usr/local/bin/hermes-gw", "/run/hermes-gw-copy")
    done = machine.run("/run/hermes-gw-copy", "service", "install")
    check("a program that does not stay is refused", done.returncode == 64 and "/usr/local/bin" in done.stderr, done.stderr)
    code, said = say("install")
    check("without a configuration it says what it serves", code == 0 and "hermes-gw init --config /etc/hermes-gw" in said, said)
    say("uninstall")
    machine.write("/etc/hermes-gw/config.toml", "[platform.local]\nlease_s = 1\n[agent.echo]\n")
    code, said = say("install")
    check("what is held is told at once, with its reason", code == 0 and "held" in said and "lease_s" in said, said)
    ctl("stop", UNIT)
    machine.write("/etc/hermes-gw/config.toml", CONFIG)
    code, said = say("install")
    check("service install", code == 0 and "enabled" in said and "slow" in said, said)
    serving()
    check("it starts with the machine", ctl("is-enabled", UNIT).stdout.strip() == "enabled")
    first = show()
    code, said = say("install")
    check("once more changes nothing", code == 0 and "unchanged" in said and show()["MainPID"] == first["MainPID"], said)
    code, said = say("status")
    check("service status", code == 0 and "active, enabled" in said and "warning" not in said, said)
    told = json.loads(machine.run(*bare, "service", "status", "--json").stdout)
    check("also for programs", told["active"] == "active" and told["warnings"] == [] and told["installed"], told)

    done = machine.run(*bare, "doctor")
    told = done.stdout
    check("the doctor finds it, and what it waits for", done.returncode == 69 and "ok     service (system): active, enabled" in told
          and "ok     gateway: " in told and "WRONG  slow: " in told, told + done.stderr)

    # A secret that only root may read is handed over, and an installed file is a part of what is compared.
    machine.write("/etc/hermes-env/.env", "TELEGRAM_BOT_TOKEN=123456789:AAF0-this_is_the_token_of_a_test_abc\n")
    machine.run("rm", "-r", "/etc/hermes-gw")
    init = ("hermes-gw", "init", "--from-hermes", "/etc/hermes-env", "--config", "/etc/hermes-gw/config.toml")
    done = machine.run("sh", "-c", 'umask 077 && exec "$0" "$@"', *init)
    check("init writes what a service of the system can read", done.returncode == 0, done.stdout + done.stderr)
    modes = machine.run("stat", "-c", "%a", "/etc/hermes-gw", "/etc/hermes-gw/config.toml", "/etc/hermes-gw/telegram-token").stdout.split()
    check("and secrets that only their owner can", modes == ["755", "644", "600"], modes)
    code, said = say("install")
    check("the unit is renewed", code == 0 and "renewed" in said, said)
    ctl("restart", UNIT)
    told = until("both are there", lambda: machine.run(*bare, "ctl", "status", "--json").stdout)
    phases = {i["name"]: (i["phase"], i.get("reason")) for i in json.loads(told)["instances"]}
    # Not every systemd within namespaces can hand anything over.
    probe = ("systemd-run", "--wait", "--pipe", "-p", "LoadCredential=a:/etc/hostname", "sh", "-c", "cat $CREDENTIALS_DIRECTORY/a")
    able = bool(machine.run(*probe).stdout.strip())
    lines = machine.run("grep", "LoadCredential", unit).stdout.split()
    here = "/etc/hermes-gw/"
    check("it is handed what only root may read", lines == [f"LoadCredential={n}:{here}{n}" for n in ("relay-secret", "telegram-token")], lines)
    check("and the service has its secrets", not able or all(phase != "held" for phase, _ in phases.values()) and len(phases) == 2, phases)
    check("of which nothing is said", "AAF0" not in said + told and say("status")[1].count("warning") == 0, said)
    first = show()

    # F89: what drifts is seen, and mended by the same command.
    machine.run("sed", "-i", "s/WatchdogSec=30/WatchdogSec=77/", unit)
    code, said = say("status")
    check("a unit of another version is told", code == 0 and "another version" in said, said)
    check("as is that systemd has not read it", "daemon-reload" in said, said)
    said = machine.run(*bare, "doctor").stdout
    check("also by the doctor", "doubt  service (system): the unit is of another version" in said, said)
    code, said = say("install")
    check("it is renewed, and what runs goes on", code == 0 and "renewed" in said and show()["MainPID"] == first["MainPID"], said)
    check("and is as it was", say("status")[1].count("warning") == 0)

    done = machine.run(*bare, "ctl", "status")
    check("ctl finds the service without any flag", done.returncode == 0 and "state in /var/lib/hermes-gw" in done.stdout, done.stdout + done.stderr)
    done = machine.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/", *bare, "ctl", "status")
    check("and tells others whom to be", done.returncode == 77 and "root" in done.stderr, done.stdout + done.stderr)

    machine.write(unit, "[Service]\nExecStart=/bin/sleep 600\n")
    code, said = say("install")
    check("somebody else's unit is not written over", code == 73 and "drop-in" in said, said)
    machine.run("rm", unit)
    machine.write("/etc/hermes-gw/config.toml", CONFIG)
    say("install")
    code, said = say("uninstall")
    check("service uninstall", code == 0 and "its state stays" in said, said)
    check("it is down and gone", show()["ActiveState"] == "inactive" and say("status")[0] == 69)
    check("its state is there", machine.run("ls", "/var/lib/hermes-gw/store.db").returncode == 0)


def for_a_user():
    """The same for one user who has no session, and so no manager yet."""
    home = "/root"
    machine.run("mount", "-t", "tmpfs", "tmpfs", home)
    machine.write(f"{home}/own.toml", "[platform.local]\n[agent.echo]\n")
    bare = "/usr/local/bin/hermes-gw"

    def as_user(*words):
        done = machine.run("env", "-i", f"PATH={os.environ['PATH']}", f"HOME={home}", *words)
        return done.returncode, done.stdout + done.stderr

    def install():
        return as_user(bare, "service", "install", "--user", "--config", f"{home}/own.toml")

    def state():
        return as_user(bare, "service", "status", "--user")

    code, said = install()
    check("a user installs one of his own", code == 0 and "started" in said and "local" in said, said)
    check("and lingers from then on (F90)", "linger" not in said and machine.run("ls", "/var/lib/systemd/linger/root").returncode == 0, said)
    unit = machine.run("cat", f"{home}/.config/systemd/user/{UNIT}.service").stdout
    check("it reads what was named", f"supervise --wait --config {home}/own.toml" in unit, unit)
    code, said = state()
    check("its status says so, too", code == 0 and "active, enabled" in said and "warning" not in said, said)
    machine.run("rm", "/var/lib/systemd/linger/root")
    check("and tells of one that ends with its user's session", "enable-linger root" in state()[1], state())
    code, said = as_user(bare, "ctl", "status")
    check("ctl finds it", code == 0 and f"{home}/.local/state/hermes-gw" in said, said)
    as_user(bare, "ctl", "kill")
    code, said = state()
    check("one that was stopped is told", code == 69 and "inactive" in said, said)
    # Another gateway has the state: the service waits, and install does not.
    other = machine.popen("env", "-i", f"HOME={home}", bare, "supervise", stderr=subprocess.DEVNULL)
    until("the other serves", lambda: as_user(bare, "ctl", "status")[0] == 0)
    code, said = install()
    check("an install says whom the service waits for", code == 0 and "waiting for" in said, said)
    as_user(bare, "ctl", "kill")
    other.wait(PATIENCE)
    until("then it serves", lambda: state()[0] == 0)
    code, said = as_user(bare, "service", "uninstall", "--user")
    check("he takes it away", code == 0 and state()[0] == 69, said)


def what_is_in_the_way():
    """What an install finds that is not as usual, and what it leaves."""
    unit, bare = f"/etc/systemd/system/{UNIT}.service", "/usr/local/bin/hermes-gw"
    machine.run("rm", "-rf", unit, "/var/lib/private/hermes-gw")
    ctl("daemon-reload")
    machine.write("/etc/hermes-gw/config.toml", "[platform.local]\n[agent.echo]\n")

    def say(*words):
        done = machine.run(*words)
        return done.returncode, done.stdout + done.stderr

    # As a package puts it there.
    other = f"/run/systemd/system/{UNIT}.service"
    machine.write(other, "[Service]\nExecStart=/bin/sleep 600\n")
    ctl("daemon-reload")
    ctl("start", UNIT)
    for what in ("install", "uninstall"):
        code, said = say(bare, "service", what)
        check(f"a unit of somebody else elsewhere: {what} says where", code == 73 and other in said, said)
    check("and it is left alone", show()["ActiveState"] == "active" and machine.run("test", "-e", unit).returncode == 1)
    ctl("stop", UNIT)
    machine.run("rm", other)
    ctl("daemon-reload")

    # It fails at each start.
    machine.write(f"{unit}.d/test.conf", "[Service]\nExecStartPre=/bin/false\n")
    for _ in range(2):
        code, said = say(bare, "service", "install")
        check("one that waits for its next start is not said to run", code == 71 and "runs already" not in said, said)
    machine.run("rm", f"{unit}.d/test.conf")
    code, said = say(bare, "service", "install")
    check("mended, the same command starts it", code == 0 and "started" in said, said)
    say(bare, "service", "uninstall")

    machine.run("mount", "-t", "tmpfs", "tmpfs", "/opt")
    machine.run("sh", "-c", "mkdir '/opt/$x 50%' && cp /usr/local/bin/hermes-gw '/opt/$x 50%' && chmod 755 /opt /opt/*")
    code, said = say("sh", "-c", "umask 077; '/opt/$x 50%/hermes-gw' service install")
    check("it starts a program at any path", code == 0 and "serving" in said, said)
    someone = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/", "/opt/$x 50%/hermes-gw")
    code, said = say(*someone, "service", "status", "--system")
    check("its status is the same for everybody", code == 0 and "warning" not in said, said)

    # A user who has never had one: the system's is no answer to where his is.
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/home")
    machine.run("useradd", "--create-home", "ann")
    machine.run("loginctl", "enable-linger", "ann")
    number = machine.run("id", "-u", "ann").stdout.strip()
    ctl("start", f"user@{number}")
    ann = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin",
           "HOME=/home/ann", bare)
    code, said = say(*ann, "service", "install", "--json", "--config", "/etc/hermes-gw/config.toml")
    check("a user installs one beside the system's", code == 0 and '"state_dir": "/home/ann/.local/state/hermes-gw"' in said, said)
    say(*ann, "service", "uninstall")
    say(bare, "service", "uninstall")


machine = Machine()
try:
    until("systemd is up", lambda: ctl("is-system-running").stdout.strip() in ("running", "degraded") or None)
    # An unprivileged service asks its manager over the bus.
    ctl("start", "dbus.socket")
    machine.write("/run/gw/config.toml", CONFIG)
    machine.write(f"/etc/systemd/system/{UNIT}.service", open(os.path.join(ASSETS, f"{UNIT}.service")).read())
    complaints = machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}.service").stderr
    check("systemd understands the unit", UNIT not in complaints, complaints)
    user = "/run/user-unit/hermes-gw.service"
    machine.write(user, open(os.path.join(ASSETS, f"{UNIT}.user.service")).read())
    complaints = machine.run("systemd-analyze", "--user", "verify", user).stderr
    check("and the one for users", "hermes-gw.service:" not in complaints, complaints)
    drop_in("")
    for part in (starts_and_stops, the_matrix, a_reload, a_wrong_configuration, the_watchdog, the_stop_limit, two_managers,
                 the_command, what_is_in_the_way, for_a_user):
        print(f"-- {part.__name__.replace('_', ' ')}", flush=True)
        part()
finally:
    if failed:
        print(machine.run("journalctl", "--no-pager", "-u", UNIT, "-n", "40").stdout[-4000:])
    machine.end()
sys.exit(f"{len(failed)} failed" if failed else 0)
