// grammY as a bot that does what a message tells it, and says what it saw as JSON lines.
//
// Usage: judge_grammy.js BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text,
// with WEBHOOK=PORT it hears by a webhook

const http = require("http");
const { Bot, GrammyError, InlineKeyboard, InputFile, InputMediaBuilder, webhookCallback } = require("grammy");

const [apiRoot, token] = process.argv.slice(2);
const bot = new Bot(token, { client: { apiRoot, timeoutSeconds: 10 } });

function say(said, more) {
  process.stdout.write(`${JSON.stringify({ said, ...more })}\n`);
}

const keyboard = new InlineKeyboard().text("Yes", "yes");

/** What came of it: a message, messages, or something else. */
async function perform(task) {
  const { chat, message, text } = task;
  const file = (bytes, name) => new InputFile(Buffer.from(bytes), name);
  switch (task.do) {
    case "photo":
      return bot.api.sendPhoto(chat, file("123", "ä.png"), { caption: text, reply_markup: keyboard });
    case "document":
      return bot.api.sendDocument(chat, file("1234", "b.pdf"), { caption: text });
    case "album": {
      const media = [InputMediaBuilder.photo(file("12", "a.png"), { caption: text }), InputMediaBuilder.photo(file("1", "b.png"))];
      return (await bot.api.sendMediaGroup(chat, media))[0];
    }
    case "caption":
      return bot.api.editMessageCaption(chat, message, { caption: text });
    case "delete":
      return bot.api.deleteMessage(chat, message);
    case "react":
      return bot.api.setMessageReaction(chat, message, [{ type: "emoji", emoji: text }]);
    case "action":
      return bot.api.sendChatAction(chat, "typing");
    case "download": {
      const { file_path: path } = await bot.api.getFile(text);
      return (await (await fetch(`${apiRoot}/file/bot${token}/${path}`)).arrayBuffer()).byteLength;
    }
  }
  if (task.do === "edit") return bot.api.editMessageText(task.chat, task.message, task.text);
  const more = {};
  if (task.entities) more.entities = task.entities;
  if (task.thread) more.message_thread_id = task.thread;
  if (task.reply_to) {
    more.reply_parameters = { message_id: task.reply_to, allow_sending_without_reply: !task.strict };
  }
  return bot.api.sendMessage(task.chat, task.text, more);
}

bot.on("message", async ({ message }) => {
  const text = message.text ?? "";
  say("message", {
    text,
    message_id: message.message_id,
    chat_id: message.chat.id,
    user_id: message.from.id,
    thread_id: message.message_thread_id,
  });
  if (process.env.ECHO === "1") await bot.api.sendMessage(message.chat.id, text);
  if (!text.startsWith("{")) return;
  const task = JSON.parse(text);
  const answer = { task: task.name, code: 0 };
  try {
    const made = await perform(task);
    answer.message_id = made.message_id;
    answer.result = typeof made === "object" ? null : made;
  } catch (error) {
    if (!(error instanceof GrammyError)) throw error;
    answer.code = error.error_code;
    answer.error = error.description;
    answer.retry_after = error.parameters.retry_after;
    answer.moved = error.parameters.migrate_to_chat_id;
  }
  say("answer", answer);
});

bot.on("callback_query:data", async (context) => {
  await context.answerCallbackQuery();
  say("button", { data: context.callbackQuery.data });
});

bot.catch((error) => say("error", { error: String(error.error) }));

const port = Number(process.env.WEBHOOK ?? 0);
if (port) {
  const secretToken = "s3cret";
  http.createServer(webhookCallback(bot, "http", { secretToken })).listen(port, "127.0.0.1", () => {
    bot.api.setWebhook(`http://127.0.0.1:${port}/`, { secret_token: secretToken });
  });
} else bot.start({ timeout: 3 }).catch((error) => {
  // It gives up at the first conflict.
  say(error.error_code === 409 ? "conflict" : "gave up", { error: error.description ?? String(error) });
});
