"""The official library for Standard Webhooks verifies what the real gateway posts. Prints `ok` or `FAIL` for each check.

Usage: webhook.py HERMES_GW SIM_FEISHU        (with a Python that has `standardwebhooks`)
"""

import base64
import datetime
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import check
from standardwebhooks import Webhook, WebhookVerificationError

GATEWAY, SIMULATOR = sys.argv[1:3]
SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()
APP = ("cli_hook", "secret", "ou_bot")
MESSAGES = 30


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ids, self.wrong, self.repeated = {}, [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.headers["webhook-id"]
        try:
            data = Webhook(SECRET).verify(body, dict(self.headers))["data"]
        except WebhookVerificationError as error:
            self.server.wrong.append(f"{name}: {error}")
            return self.answer(401)
        for altered in (body + b" ", body.replace(b"m", b"n")):
            try:
                Webhook(SECRET).verify(altered, dict(self.headers))
                self.server.wrong.append(f"{name}: another body is as good")
            except WebhookVerificationError:
                pass
        known = self.server.ids.setdefault(name, data["event_id"])
        if known != data["event_id"]:
            self.server.wrong.append(f"{name}: for {known} and {data['event_id']}")
        if data["text"].endswith("0") and data["attempt"] == 1:
            self.server.repeated += 1
            return self.answer(503)
        self.answer(200, json.dumps({"text": f"answer to {data['text']}"}).encode())


class Later:
    """What the receiver says later, signed by the official library."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/messages"

    def post(self, name, message, at=None, sign=True):
        body = json.dumps(message)
        at = at or datetime.datetime.now(datetime.timezone.utc)
        headers = {"content-type": "application/json"}
        if sign:
            headers |= {"webhook-id": name, "webhook-timestamp": str(int(at.timestamp())),
                        "webhook-signature": Webhook(SECRET).sign(name, at, body)}
        request = urllib.request.Request(self.url, body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, None

    def message(self, **more):
        return {"type": "message.send", "data": {"instance": "feishu", "chat_id": "oc_0", **more}}

    def a_signed_reply_is_sent_once(self, sim):
        before = sim.count(seen="sent")
        first = self.post("later_1", self.message(text="one more thing"))
        again = self.post("later_1", self.message(text="one more thing"))
        assert first[0] == again[0] == 200 and first[1]["id"] == again[1]["id"], (first, again)
        assert self.post("later_2", self.message(text="and another", key="k"))[1]["key"] == "k"
        sim.wait_count(check.SOON, before + 2, seen="sent")

    def what_is_not_signed_lately_is_refused(self, sim):
        hour = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=6)
        assert self.post("later_3", self.message(text="x"), at=hour)[0] == 401
        assert self.post("later_3", self.message(text="x"), sign=False)[0] == 401
        known, globals()["SECRET"] = SECRET, "whsec_" + base64.b64encode(os.urandom(32)).decode()
        status = self.post("later_3", self.message(text="x"))[0]
        globals()["SECRET"] = known
        assert status == 401, status

    def what_is_no_message_is_refused(self, sim):
        for number, wrong in enumerate([[], {}, {"type": "other"}, self.message(), self.message(text=7),
                                        self.message(text="x", instance="nobody"), self.message(text="x", key="")]):
            status = self.post(f"wrong_{number}", wrong)[0]
            assert status == 422, f"{wrong}: {status}"

    def a_file_goes_with_its_bytes(self, sim):
        data = base64.b64encode(b"a small file").decode()
        files = [{"kind": "file", "title": "a.txt", "data": data}]
        status, told = self.post("later_4", self.message(files=files))
        assert status == 200, (status, told)
        sim.wait(check.SOON, seen="uploaded")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    receiver = Receiver()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sim = check.Process([SIMULATOR, "--app", ":".join(APP)])
    with tempfile.TemporaryDirectory(prefix="hgw") as directory:
        place = pathlib.Path(directory)
        (place / "secret").write_text(APP[1])
        (place / "key").write_text(SECRET)
        (place / "gw.toml").write_text(f"""
            [gateway]
            state_dir = "s"
            [platform.feishu]
            app_id = "{APP[0]}"
            app_secret_file = "secret"
            base_url = "{sim.wait(check.SOON, seen="listening")["base_url"]}"
            access = {{ direct = "open" }}
            [agent.flow]
            kind = "webhook"
            url = "http://127.0.0.1:{receiver.server_address[1]}/hook"
            secret_file = "key"
            listen = "127.0.0.1:{port}"
        """)
        gateway = subprocess.Popen([GATEWAY, "supervise", "--config", place / "gw.toml"],
                                   stdin=subprocess.DEVNULL, stderr=(place / "log").open("w"))
        failed = 0
        try:
            sim.wait(check.SOON, seen="opened")
            for n in range(MESSAGES):
                sim.tell(do="push_text", chat=f"oc_{n % 5}", sender=f"ou_{n % 5}", text=f"m{n}")
            sim.wait_count(60, MESSAGES, seen="sent")
            sim.tell(do="sent")
            sent = sim.wait(check.SOON, did="sent")["messages"]
            texts = sorted(it["shown"] for it in sent)
            later = Later(port)
            for text, holds in {
                "webhook: the official library verifies every post and no altered one": not receiver.wrong,
                "webhook: an id is one event's, also of a repetition": len(receiver.ids) == MESSAGES,
                "webhook: what was refused comes again": receiver.repeated == MESSAGES // 10,
                "webhook: every message has one answer":
                    texts == sorted(f"answer to m{n}" for n in range(MESSAGES)),
            }.items():
                failed += not holds
                print(f"{'ok  ' if holds else 'FAIL'} {text}", flush=True)
            for name in ("a_signed_reply_is_sent_once", "what_is_not_signed_lately_is_refused",
                         "what_is_no_message_is_refused", "a_file_goes_with_its_bytes"):
                try:
                    getattr(later, name)(sim)
                    print(f"ok   webhook: {name.replace('_', ' ')}", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"FAIL webhook: {name.replace('_', ' ')}\n  {type(error).__name__}: {error}", flush=True)
            if failed:
                print(receiver.wrong, texts, (place / "log").read_text()[-3000:])
        finally:
            gateway.terminate()
            gateway.wait(20)
            sim.end()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
