"""The official SDK for Python as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge.py BASE_URL APP_ID APP_SECRET
"""

import json
import queue
import sys
import threading

import lark_oapi as lark
from lark_oapi.api.im.v1 import (
    CreateMessageRequest,
    CreateMessageRequestBody,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)

BASE_URL, APP_ID, APP_SECRET = sys.argv[1:4]
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


def perform(task):
    response = {"create": create, "reply": reply, "bot_info": bot_info}[task["do"]](task)
    answer = json.loads(response.raw.content)
    data = answer.get("data") or {}
    say("answer", task=task["name"], code=response.code, message_id=data.get("message_id"),
        thread_id=data.get("thread_id"), open_id=(answer.get("bot") or {}).get("open_id"))


def run():
    while True:
        task = work.get()
        try:
            perform(task)
        except Exception as error:
            say("error", task=task.get("name"), error=repr(error))


def on_message(event):
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


handler = (
    lark.EventDispatcherHandler.builder("", "")
    .register_p2_im_message_receive_v1(on_message)
    .register_p2_im_chat_access_event_bot_p2p_chat_entered_v1(on_other)
    .register_p2_im_message_message_read_v1(on_other)
    .register_p2_im_message_reaction_created_v1(on_other)
    .build()
)
threading.Thread(target=run, daemon=True).start()
say("started")
try:
    lark.ws.Client(APP_ID, APP_SECRET, event_handler=handler, domain=BASE_URL).start()
except Exception as error:
    say("gave up", error=str(error))
