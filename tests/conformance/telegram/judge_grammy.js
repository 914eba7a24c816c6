// grammY as a bot that does what a message tells it, and says what it saw as JSON lines.
//
// Usage: judge_grammy.js BASE_URL TOKEN; with ECHO=1 in the environment it answers every text with the same text

const { Bot, GrammyError } = require("grammy");

const [apiRoot, token] = process.argv.slice(2);
const bot = new Bot(token, { client: { apiRoot, timeoutSeconds: 10 } });

function say(said, more) {
  process.stdout.write(`${JSON.stringify({ said, ...more })}\n`);
}

function perform(task) {
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
    answer.message_id = (await perform(task)).message_id;
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

bot.start({ timeout: 3 }).catch((error) => {
  // It gives up at the first conflict.
  say(error.error_code === 409 ? "conflict" : "gave up", { error: error.description ?? String(error) });
});
