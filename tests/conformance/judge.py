"""The official SDK for Python as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge.py BASE_URL APP_ID APP_SECRET [ENCRYPT_KEY VERIFICATION_TOKEN]

With the last two it waits for events to be posted instead of connecting. Each message is appended to the file JUDGE_SHELF
and synced before it is answered, if that is in the environment.
"""

import http.server
import io
import json
import os
import queue
import sys
import threading

import lark_oapi as lark
from lark_oapi.api import cardkit, im
from lark_oapi.api.im.v1 import (
    CreateMessageRequest,
    CreateMessageRequestBody,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTriggerResponse

BASE_URL, APP_ID, APP_SECRET = sys.argv[1:4]
SHELF = os.environ.get("JUDGE_SHELF")
shelf = os.open(SHELF, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if SHELF else None
client = lark.Client.builder().app_id(APP_ID).app_secret(APP_SECRET).domain(BASE_URL).build()
work = queue.Queue()
failed_before = set()


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


def create(task):
    kind = task.get("msg_type", "text")
    body = CreateMessageRequestBody.builder().receive_id(task["to"]).msg_type(kind)
    body = body.content(json.dumps(task["content"])).uuid(task["uuid"]).build()
    request = CreateMessageRequest.builder().receive_id_type("chat_id").request_body(body).build()
    return client.im.v1.message.create(request)


def reply(task):
    body = ReplyMessageRequestBody.builder().msg_type("text").content(json.dumps(task["content"]))
    body = body.uuid(task["uuid"]).reply_in_thread(task["in_thread"]).build()
    request = ReplyMessageRequest.builder().message_id(task["message_id"]).request_body(body).build()
    return client.im.v1.message.reply(request)


def bot_info(_):
    request = lark.BaseRequest.builder().http_method(lark.HttpMethod.GET).uri("/open-apis/bot/v3/info")
    return client.request(request.token_types({lark.AccessTokenType.TENANT}).build())


def built(model, **members):
    builder = model.builder()
    for name, value in members.items():
        builder = getattr(builder, name)(value)
    return builder.build()


# What the SDK calls an API, the models of its request and body, and where a task's members go.
MESSAGE = {"message_id": "id"}
CARD = {"card_id": "id"}
CALLS = {
    "edit": (im, "message.update", "UpdateMessage", MESSAGE, ["msg_type", "content"]),
    "patch": (im, "message.patch", "PatchMessage", MESSAGE, ["content"]),
    "recall": (im, "message.delete", "DeleteMessage", MESSAGE, None),
    "get": (im, "message.get", "GetMessage", MESSAGE, None),
    "history": (im, "message.list", "ListMessage",
                {"container_id_type": "container", "container_id": "id", "sort_type": "sort", "page_size": "size",
                 "page_token": "page"}, None),
    "chat": (im, "chat.get", "GetChat", {"chat_id": "id"}, None),
    "unreact": (im, "message_reaction.delete", "DeleteMessageReaction",
                {"message_id": "id", "reaction_id": "reaction"}, None),
    "reactions": (im, "message_reaction.list", "ListMessageReaction", MESSAGE, None),
    "card": (cardkit, "card.create", "CreateCard", {}, ["type", "data"]),
    "card_words": (cardkit, "card_element.content", "ContentCardElement",
                   {"card_id": "id", "element_id": "element"}, ["content", "sequence", "uuid"]),
    "card_done": (cardkit, "card.settings", "SettingsCard", CARD, ["settings", "sequence", "uuid"]),
    "card_of": (cardkit, "card.id_convert", "IdConvertCard", {}, ["message_id"]),
}


def call(task):
    family, name, model, path, members = CALLS[task["do"]]
    models, service = family.v1, getattr(client, family.__name__.rsplit(".", 1)[-1]).v1
    fields = {key: task[member] for key, member in path.items()}
    if members is not None:
        body = {it: task[it] for it in members if it in task}
        fields["request_body"] = built(getattr(models, model + "RequestBody"), **body)
    group, method = name.split(".")
    return getattr(getattr(service, group), method)(built(getattr(models, model + "Request"), **fields))


def react(task):
    kind = built(im.v1.Emoji, emoji_type=task["emoji"])
    body = built(im.v1.CreateMessageReactionRequestBody, reaction_type=kind)
    request = built(im.v1.CreateMessageReactionRequest, message_id=task["id"], request_body=body)
    return client.im.v1.message_reaction.create(request)


def image(task):
    body = built(im.v1.CreateImageRequestBody, image_type="message", image=io.BytesIO(task["bytes"].encode()))
    return client.im.v1.image.create(built(im.v1.CreateImageRequest, request_body=body))


def file(task):
    body = built(im.v1.CreateFileRequestBody, file_type="stream", file_name="a.txt",
                 file=io.BytesIO(task["bytes"].encode()))
    return client.im.v1.file.create(built(im.v1.CreateFileRequest, request_body=body))


def card_whole(task):
    card = built(cardkit.v1.Card, type="card_json", data=task["data"])
    body = built(cardkit.v1.UpdateCardRequestBody, card=card, sequence=task["sequence"], uuid=task["uuid"])
    return client.cardkit.v1.card.update(built(cardkit.v1.UpdateCardRequest, card_id=task["id"], request_body=body))


def resource(task):
    request = built(im.v1.GetMessageResourceRequest, message_id=task["id"], file_key=task["key"], type=task["type"])
    response = client.im.v1.message_resource.get(request)
    text = response.file.read().decode() if response.code == 0 else None
    say("answer", task=task["name"], code=response.code, data={"text": text})


OTHERS = {"create": create, "reply": reply, "bot_info": bot_info, "react": react, "image": image, "file": file,
          "card_whole": card_whole}


def perform(task):
    if task["do"] == "resource":
        resource(task)
        return
    response = OTHERS.get(task["do"], call)(task)
    answer = json.loads(response.raw.content)
    data = answer.get("data") or {}
    say("answer", task=task["name"], code=response.code, message_id=data.get("message_id"),
        thread_id=data.get("thread_id"), open_id=(answer.get("bot") or {}).get("open_id"), data=data)


def run():
    while True:
        task = work.get()
        try:
            perform(task)
        except Exception as error:
            say("error", task=task.get("name"), error=repr(error))


def store(event):
    """Puts it on disk, if that is wanted: nothing is answered before."""
    if shelf is not None:
        os.write(shelf, lark.JSON.marshal(event).encode() + b"\n")
        os.fdatasync(shelf)


def on_message(event):
    store(event)
    message = event.event.message
    content = json.loads(message.content)
    text = content.get("text", "")
    if text == "fail once" and event.header.event_id not in failed_before:
        failed_before.add(event.header.event_id)
        raise RuntimeError("told to fail")
    say("message", text=text, content=content, message_id=message.message_id, chat_id=message.chat_id,
        chat_type=message.chat_type, thread_id=message.thread_id, event_id=event.header.event_id,
        sender=event.event.sender.sender_id.open_id,
        mentions=[[mention.key, mention.id.open_id, mention.name] for mention in message.mentions or []])
    if text.startswith("{"):
        work.put({"message_id": message.message_id, **json.loads(text)})


def on_other(event):
    say("event", type=event.header.event_type)


def on_press(event):
    say("pressed", value=event.event.action.value, chat_id=event.event.context.open_chat_id,
        message_id=event.event.context.open_message_id)
    return P2CardActionTriggerResponse({"toast": {"type": "info", "content": "heard"}})


def wait_for_posts():
    """Events as they are posted: each goes through the SDK, which opens and verifies it."""

    class Posts(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            request = lark.RawRequest()
            request.uri = self.path
            request.headers = {key: value for key, value in self.headers.items()}
            request.body = self.rfile.read(int(self.headers["content-length"]))
            answer = handler.do(request)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content or b"")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Posts)
    say("listening", url=f"http://127.0.0.1:{server.server_port}/")
    server.serve_forever()


handler = (
    lark.EventDispatcherHandler.builder(*(sys.argv[4:6] or ("", "")))
    .register_p2_im_message_receive_v1(on_message)
    .register_p2_im_chat_access_event_bot_p2p_chat_entered_v1(on_other)
    .register_p2_im_message_message_read_v1(on_other)
    .register_p2_im_message_reaction_created_v1(on_other)
    .register_p2_im_message_recalled_v1(on_other)
    .register_p2_im_chat_member_bot_added_v1(on_other)
    .register_p2_application_bot_menu_v6(on_other)
    .register_p2_card_action_trigger(on_press)
    .build()
)
threading.Thread(target=run, daemon=True).start()
say("started")
if len(sys.argv) > 4:
    wait_for_posts()
try:
    lark.ws.Client(APP_ID, APP_SECRET, event_handler=handler, domain=BASE_URL).start()
except Exception as error:
    say("gave up", error=str(error))
