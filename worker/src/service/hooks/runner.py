# Runs handle(event_type, context) of one handler.py for each line of standard input, and says on
# standard output how it went. What the handler prints goes to standard error.
import asyncio, importlib.util, inspect, json, os, sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def say(number, error=None):
    answers.write(json.dumps({"id": number, "error": error}) + "\n")


def short(error):
    return (type(error).__name__ + ": " + str(error))[:300]


async def tell(handle, line):
    call = json.loads(line)
    try:
        result = handle(call["event"], call["context"])
        if inspect.isawaitable(result):
            await result
        say(call["id"])
    except Exception as error:
        say(call["id"], short(error))


async def main(path):
    try:
        sys.path.insert(0, os.path.dirname(path))
        spec = importlib.util.spec_from_file_location("handler", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["handler"] = module
        spec.loader.exec_module(module)
        handle = module.handle
    except BaseException as error:
        say(0, "load handler.py: " + short(error))
        return
    say(0)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while True:
        line = await reader.readline()
        if not line:
            break
        task = loop.create_task(tell(handle, line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main(sys.argv[1]))
