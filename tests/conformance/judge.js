// The official SDK for Node as a bot that does what a message tells it, and says what it saw as JSON lines.
//
// Usage: judge.js BASE_URL APP_ID APP_SECRET

const lark = require("@larksuiteoapi/node-sdk");

const [domain, appId, appSecret] = process.argv.slice(2);
const quiet = lark.LoggerLevel.fatal;
const client = new lark.Client({ appId, appSecret, domain, loggerLevel: quiet });
const failedBefore = new Set();

function say(said, more) {
  process.stdout.write(`${JSON.stringify({ said, ...more })}\n`);
}

const actions = {
  create: (task) =>
    client.im.message.create({
      params: { receive_id_type: "chat_id" },
      data: {
        receive_id: task.to,
        msg_type: task.msg_type ?? "text",
        content: JSON.stringify(task.content),
        uuid: task.uuid,
      },
    }),
  reply: (task) =>
    client.im.message.reply({
      path: { message_id: task.message_id },
      data: {
        msg_type: "text",
        content: JSON.stringify(task.content),
        reply_in_thread: task.in_thread,
        uuid: task.uuid,
      },
    }),
  bot_info: () => client.request({ method: "GET", url: "/open-apis/bot/v3/info" }),
};

async function perform(task) {
  let answer;
  try {
    answer = await actions[task.do](task);
  } catch (error) {
    // The SDK throws what the platform refuses; the envelope is inside.
    answer = error.response?.data;
    if (answer?.code === undefined) {
      say("error", { task: task.name, error: String(error) });
      return;
    }
  }
  const { code, data, bot } = answer;
  say("answer", {
    task: task.name,
    code,
    message_id: data?.message_id,
    thread_id: data?.thread_id,
    open_id: bot?.open_id,
  });
}

// Work goes one after the other, as messages come.
let work = Promise.resolve();

function onMessage(event) {
  const { message, sender } = event;
  const content = JSON.parse(message.content);
  const text = content.text ?? "";
  if (text === "fail once" && !failedBefore.has(event.event_id)) {
    failedBefore.add(event.event_id);
    throw new Error("told to fail");
  }
  say("message", {
    text,
    content,
    message_id: message.message_id,
    chat_id: message.chat_id,
    chat_type: message.chat_type,
    thread_id: message.thread_id,
    event_id: event.event_id,
    sender: sender.sender_id.open_id,
    mentions: (message.mentions ?? []).map((it) => [it.key, it.id.open_id, it.name]),
  });
  if (text.startsWith("{")) {
    const task = { message_id: message.message_id, ...JSON.parse(text) };
    work = work.then(() => perform(task));
  }
}

const onOther = (event) => say("event", { type: event.event_type });

const eventDispatcher = new lark.EventDispatcher({ loggerLevel: quiet }).register({
  "im.message.receive_v1": onMessage,
  "im.chat.access_event.bot_p2p_chat_entered_v1": onOther,
  "im.message.message_read_v1": onOther,
  "im.message.reaction.created_v1": onOther,
});

say("started");
new lark.WSClient({
  appId,
  appSecret,
  domain,
  loggerLevel: quiet,
  onError: (error) => say("gave up", { error: String(error) }),
}).start({ eventDispatcher });
