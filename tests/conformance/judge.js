// The official SDK for Node as a bot that does what a message tells it, and says what it saw as JSON lines.
//
// Usage: judge.js BASE_URL APP_ID APP_SECRET [ENCRYPT_KEY VERIFICATION_TOKEN]
//
// With the last two it waits for events to be posted instead of connecting. Each message is appended to the file JUDGE_SHELF
// and synced before it is answered, if that is in the environment.

const fs = require("node:fs");
const http = require("node:http");
const lark = require("@larksuiteoapi/node-sdk");

const [domain, appId, appSecret, encryptKey, verificationToken] = process.argv.slice(2);
const quiet = lark.LoggerLevel.fatal;
const client = new lark.Client({ appId, appSecret, domain, loggerLevel: quiet });
const failedBefore = new Set();
const shelf = process.env.JUDGE_SHELF && fs.openSync(process.env.JUDGE_SHELF, "a", 0o600);

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
  edit: ({ id, msg_type, content }) =>
    client.im.message.update({ path: { message_id: id }, data: { msg_type, content } }),
  patch: ({ id, content }) => client.im.message.patch({ path: { message_id: id }, data: { content } }),
  recall: ({ id }) => client.im.message.delete({ path: { message_id: id } }),
  get: ({ id }) => client.im.message.get({ path: { message_id: id } }),
  history: ({ id, container, sort, size, page }) =>
    client.im.message.list({
      params: {
        container_id_type: container,
        container_id: id,
        sort_type: sort,
        page_size: size,
        page_token: page || undefined,
      },
    }),
  chat: ({ id }) => client.im.chat.get({ path: { chat_id: id } }),
  react: ({ id, emoji }) =>
    client.im.messageReaction.create({
      path: { message_id: id },
      data: { reaction_type: { emoji_type: emoji } },
    }),
  unreact: ({ id, reaction }) =>
    client.im.messageReaction.delete({ path: { message_id: id, reaction_id: reaction } }),
  reactions: ({ id }) => client.im.messageReaction.list({ path: { message_id: id } }),
  image: async ({ bytes }) =>
    unwrapped(await client.im.image.create({ data: { image_type: "message", image: Buffer.from(bytes) } })),
  file: async ({ bytes }) =>
    unwrapped(
      await client.im.file.create({
        data: { file_type: "stream", file_name: "a.txt", file: Buffer.from(bytes) },
      }),
    ),
  resource: async ({ id, key, type }) => {
    const found = await client.im.messageResource.get({
      path: { message_id: id, file_key: key },
      params: { type },
    });
    const pieces = [];
    for await (const piece of found.getReadableStream()) pieces.push(piece);
    return { code: 0, data: { text: Buffer.concat(pieces).toString() } };
  },
  card: ({ type, data }) => client.cardkit.v1.card.create({ data: { type, data } }),
  card_words: ({ id, element, content, sequence, uuid }) =>
    client.cardkit.v1.cardElement.content({
      path: { card_id: id, element_id: element },
      data: { content, sequence, uuid },
    }),
  card_done: ({ id, settings, sequence, uuid }) =>
    client.cardkit.v1.card.settings({ path: { card_id: id }, data: { settings, sequence, uuid } }),
  card_whole: ({ id, data, sequence, uuid }) =>
    client.cardkit.v1.card.update({
      path: { card_id: id },
      data: { card: { type: "card_json", data }, sequence, uuid },
    }),
  card_of: ({ message_id }) => client.cardkit.v1.card.idConvert({ data: { message_id } }),
};

// Uploads lose their envelope in this SDK.
const unwrapped = (answer) => (answer?.code === undefined ? { code: answer ? 0 : -1, data: answer } : answer);

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
    data,
  });
}

// Work goes one after the other, as messages come.
let work = Promise.resolve();

// Puts it on disk, if that is wanted: nothing is answered before.
function store(event) {
  if (shelf) {
    fs.writeSync(shelf, `${JSON.stringify(event)}\n`);
    fs.fdatasyncSync(shelf);
  }
}

function onMessage(event) {
  store(event);
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

function onPress(event) {
  const { action, context } = event;
  say("pressed", { value: action.value, chat_id: context.open_chat_id, message_id: context.open_message_id });
  return { toast: { type: "info", content: "heard" } };
}

const eventDispatcher = new lark.EventDispatcher({ loggerLevel: quiet, encryptKey, verificationToken }).register({
  "im.message.receive_v1": onMessage,
  "im.chat.access_event.bot_p2p_chat_entered_v1": onOther,
  "im.message.message_read_v1": onOther,
  "im.message.reaction.created_v1": onOther,
  "im.message.recalled_v1": onOther,
  "im.chat.member.bot.added_v1": onOther,
  "application.bot.menu_v6": onOther,
  "card.action.trigger": onPress,
});

say("started");
if (encryptKey === undefined) {
  new lark.WSClient({
    appId,
    appSecret,
    domain,
    loggerLevel: quiet,
    onError: (error) => say("gave up", { error: String(error) }),
  }).start({ eventDispatcher });
} else {
  const server = http.createServer();
  server.on("request", lark.adaptDefault("/", eventDispatcher, { autoChallenge: true }));
  server.listen(0, "127.0.0.1", () => say("listening", { url: `http://127.0.0.1:${server.address().port}/` }));
}
