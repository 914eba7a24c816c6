"""python-telegram-bot as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge_ptb.py BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text
"""

import json
import os
import sys

from telegram import MessageEntity, ReplyParameters, Update
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, RetryAfter
from telegram.ext import Application, CallbackQueryHandler, MessageHandler, filters

BASE_URL, TOKEN = sys.argv[1:3]
ECHO = os.environ.get("ECHO") == "1"


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


async def perform(bot, task):
    if task["do"] == "edit":
        return await bot.edit_message_text(task["text"], chat_id=task["chat"], message_id=task["message"])
    reply = None
    if task.get("reply_to"):
        reply = ReplyParameters(task["reply_to"], allow_sending_without_reply=not task.get("strict"))
    entities = [MessageEntity(**it) for it in task.get("entities", [])] or None
    return await bot.send_message(task["chat"], task["text"], entities=entities, reply_parameters=reply,
                                  message_thread_id=task.get("thread"))


async def on_message(update, context):
    message = update.effective_message
    text = message.text or ""
    say("message", text=text, message_id=message.message_id, chat_id=message.chat.id,
        user_id=message.from_user.id, thread_id=message.message_thread_id)
    if ECHO:
        await context.bot.send_message(message.chat.id, text)
    if not text.startswith("{"):
        return
    task = json.loads(text)
    answer = {"task": task["name"], "code": 0}
    try:
        answer["message_id"] = (await perform(context.bot, task)).message_id
    except RetryAfter as error:
        after = error.retry_after
        answer.update(code=429, retry_after=int(after if isinstance(after, int) else after.total_seconds()))
    except ChatMigrated as error:
        answer.update(code=400, moved=error.new_chat_id)
    except Forbidden as error:
        answer.update(code=403, error=str(error))
    except BadRequest as error:
        answer.update(code=400, error=str(error))
    except Exception as error:
        answer.update(code=-1, error=repr(error))
    say("answer", **answer)


async def on_button(update, _):
    await update.callback_query.answer()
    say("button", data=update.callback_query.data)


async def on_error(_, context):
    kind = "conflict" if isinstance(context.error, Conflict) else "error"
    say(kind, error=str(context.error))


def main():
    builder = Application.builder().token(TOKEN).base_url(f"{BASE_URL}/bot").get_updates_read_timeout(10)
    app = builder.build()
    app.add_handler(MessageHandler(filters.ALL, on_message))
    app.add_handler(CallbackQueryHandler(on_button))
    app.add_error_handler(on_error)
    try:
        app.run_polling(timeout=3, poll_interval=0, allowed_updates=Update.ALL_TYPES)
    except InvalidToken as error:
        say("gave up", error=f"invalid token: {error}")


main()
