"""aiogram as a bot that does what a message tells it, and says what it saw as JSON lines.

Usage: judge_aiogram.py BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text
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
from aiogram.types import MessageEntity, ReplyParameters

BASE_URL, TOKEN = sys.argv[1:3]
ECHO = os.environ.get("ECHO") == "1"
dispatcher = Dispatcher()


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


class Conflicts(logging.Handler):
    """aiogram tells of a conflict in its log only."""

    def emit(self, record):
        text = record.getMessage()
        if "Conflict" in text:
            say("conflict", error=text)


async def perform(bot, task):
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
        answer["message_id"] = (await perform(bot, task)).message_id
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
    try:
        await dispatcher.start_polling(bot, polling_timeout=3, handle_signals=False)
    except TelegramUnauthorizedError as error:
        say("gave up", error=str(error))
    finally:
        await session.close()


asyncio.run(main())
