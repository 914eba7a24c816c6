"""aiogram as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge_aiogram.py BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text, with
WEBHOOK=PORT it hears by a webhook
"""

import asyncio
import json
import logging
import os
import sys

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramAPIError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.types import (
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    MessageEntity,
    ReactionTypeEmoji,
    ReplyParameters,
)
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from aiohttp import web

BASE_URL, TOKEN = sys.argv[1:3]
ECHO = os.environ.get("ECHO") == "1"
PORT, SECRET = int(os.environ.get("WEBHOOK") or 0), "s3cret"
dispatcher = Dispatcher()


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


class Conflicts(logging.Handler):
    """aiogram tells of a conflict in its log only."""

    def emit(self, record):
        text = record.getMessage()
        if "Conflict" in text:
            say("conflict", error=text)


KEYBOARD = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Yes", callback_data="yes")]])


async def perform(bot, task):
    """What came of it: a message, messages, or something else."""
    chat, message = task["chat"], task.get("message")
    if task["do"] == "photo":
        photo = BufferedInputFile(b"123", "ä.png")
        return await bot.send_photo(chat, photo, caption=task["text"], reply_markup=KEYBOARD)
    if task["do"] == "document":
        return await bot.send_document(chat, BufferedInputFile(b"1234", "b.pdf"), caption=task["text"])
    if task["do"] == "album":
        photos = [BufferedInputFile(b"12", "a.png"), BufferedInputFile(b"1", "b.png")]
        media = [InputMediaPhoto(media=photos[0], caption=task["text"]), InputMediaPhoto(media=photos[1])]
        return (await bot.send_media_group(chat, media))[0]
    if task["do"] == "caption":
        return await bot.edit_message_caption(chat_id=chat, message_id=message, caption=task["text"])
    if task["do"] == "delete":
        return await bot.delete_message(chat, message)
    if task["do"] == "react":
        return await bot.set_message_reaction(chat, message, [ReactionTypeEmoji(emoji=task["text"])])
    if task["do"] == "action":
        return await bot.send_chat_action(chat, "typing")
    if task["do"] == "download":
        return len((await bot.download(task["text"])).read())
    if task["do"] == "edit":
        return await bot.edit_message_text(task["text"], chat_id=task["chat"], message_id=task["message"])
    reply = None
    if task.get("reply_to"):
        reply = ReplyParameters(message_id=task["reply_to"],
                                allow_sending_without_reply=not task.get("strict"))
    entities = [MessageEntity(**it) for it in task.get("entities", [])] or None
    return await bot.send_message(task["chat"], task["text"], entities=entities, reply_parameters=reply,
                                  message_thread_id=task.get("thread"))


@dispatcher.message()
async def on_message(message, bot):
    text = message.text or ""
    say("message", text=text, message_id=message.message_id, chat_id=message.chat.id,
        user_id=message.from_user.id, thread_id=message.message_thread_id)
    if ECHO:
        await bot.send_message(message.chat.id, text)
    if not text.startswith("{"):
        return
    task = json.loads(text)
    answer = {"task": task["name"], "code": 0}
    try:
        made = await perform(bot, task)
        answer["message_id"] = getattr(made, "message_id", None)
        answer["result"] = made if isinstance(made, (bool, int)) else None
    except TelegramRetryAfter as error:
        answer.update(code=429, retry_after=error.retry_after)
    except TelegramMigrateToChat as error:
        answer.update(code=400, moved=error.migrate_to_chat_id)
    except TelegramForbiddenError as error:
        answer.update(code=403, error=str(error))
    except TelegramBadRequest as error:
        answer.update(code=400, error=str(error))
    except TelegramAPIError as error:
        answer.update(code=-1, error=repr(error))
    say("answer", **answer)


@dispatcher.callback_query()
async def on_button(query):
    await query.answer()
    say("button", data=query.data)


async def main():
    logging.getLogger("aiogram").addHandler(Conflicts())
    session = AiohttpSession(api=TelegramAPIServer.from_base(BASE_URL))
    bot = Bot(TOKEN, session=session)
    if PORT:
        app = web.Application()
        SimpleRequestHandler(dispatcher, bot, handle_in_background=False, secret_token=SECRET).register(app, path="/")
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
        await bot.set_webhook(f"http://127.0.0.1:{PORT}/", secret_token=SECRET)
        await asyncio.Event().wait()
    try:
        await dispatcher.start_polling(bot, polling_timeout=3, handle_signals=False)
    except TelegramUnauthorizedError as error:
        say("gave up", error=str(error))
    finally:
        await session.close()


asyncio.run(main())
