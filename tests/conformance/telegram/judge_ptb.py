"""python-telegram-bot as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge_ptb.py BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text, with
WEBHOOK=PORT it hears by a webhook
"""

import json
import os
import sys

from telegram import (
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    InputMediaPhoto,
    MessageEntity,
    ReplyParameters,
    Update,
)
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, RetryAfter
from telegram.ext import Application, CallbackQueryHandler, MessageHandler, filters

BASE_URL, TOKEN = sys.argv[1:3]
ECHO = os.environ.get("ECHO") == "1"
PORT, SECRET = int(os.environ.get("WEBHOOK") or 0), "s3cret"


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


KEYBOARD = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])


async def perform(bot, task):
    """What came of it: a message, messages, or something else."""
    chat, message = task["chat"], task.get("message")
    if task["do"] == "photo":
        return await bot.send_photo(chat, InputFile(b"123", "ä.png"), caption=task["text"], reply_markup=KEYBOARD)
    if task["do"] == "document":
        return await bot.send_document(chat, InputFile(b"1234", "b.pdf"), caption=task["text"])
    if task["do"] == "album":
        return (await bot.send_media_group(chat, [InputMediaPhoto(b"12", caption=task["text"]), InputMediaPhoto(b"1")]))[0]
    if task["do"] == "caption":
        return await bot.edit_message_caption(chat, message, caption=task["text"])
    if task["do"] == "delete":
        return await bot.delete_message(chat, message)
    if task["do"] == "react":
        return await bot.set_message_reaction(chat, message, task["text"])
    if task["do"] == "action":
        return await bot.send_chat_action(chat, "typing")
    if task["do"] == "download":
        return len(await (await bot.get_file(task["text"])).download_as_bytearray())
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
        made = await perform(context.bot, task)
        answer["message_id"] = getattr(made, "message_id", None)
        answer["result"] = made if isinstance(made, (bool, int)) else None
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
    builder = builder.base_file_url(f"{BASE_URL}/file/bot")
    app = builder.build()
    app.add_handler(MessageHandler(filters.ALL, on_message))
    app.add_handler(CallbackQueryHandler(on_button))
    app.add_error_handler(on_error)
    if PORT:
        app.run_webhook(listen="127.0.0.1", port=PORT, webhook_url=f"http://127.0.0.1:{PORT}/", secret_token=SECRET)
        return
    try:
        app.run_polling(timeout=3, poll_interval=0, allowed_updates=Update.ALL_TYPES)
    except InvalidToken as error:
        say("gave up", error=f"invalid token: {error}")


main()
