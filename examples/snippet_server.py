"""A snippet server: code comes over a socket, runs in a fresh warm process with limits, and data goes back.

python examples/snippet_server.py [how many at once]

Starts the server, and sends it that many snippets at once (100), some of them hostile, and a session.
"""

from __future__ import annotations

import asyncio
import json
import sys

import warmfork

LIMITS = {"timeout": 2.0, "memory_limit": 200 << 20, "output_limit": 100_000}

HOSTILE = [
    "while True: pass",
    "held = []\nwhile True: held.append(b'x' * 1_000_000)",
    "while True: print('x' * 1000)",
    "import os\nos._exit(1)",
    "import os\nfor _ in range(5): os.fork()\nwhile True: pass",
    "class P:\n    def __reduce__(self): return exit, ()\nresult = P()",
]


async def answer(template: warmfork.Template, code: str) -> dict[str, object]:
    """Run one snippet. Whatever it does, the answer is a dict."""
    try:
        done = await template.arun(code, capture_output=True, text=True, env="minimal", **LIMITS)
        return {"result": done.result, "stdout": done.stdout}
    except warmfork.LimitExceeded as error:
        return {"error": f"{error.limit} limit reached"}
    except warmfork.ResultError as error:
        return {"error": error.why}


async def serve(template: warmfork.Template, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: a line of JSON for each request. {"session": code} runs it in this connection's own session."""
    session = None
    while line := await reader.readline():
        request = json.loads(line)
        if "session" in request:
            session = session or await template.session(env="minimal").__aenter__()
            done = await session.arun(request["session"], timeout=2.0)
            reply = {"result": done.result} if done.ok() else {"error": done.error and done.error.message}
        else:
            reply = await answer(template, request["run"])
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
    if session is not None:
        await session.__aexit__(None, None, None)
    writer.close()


async def ask(port: int, *requests: dict[str, str]) -> list[dict[str, object]]:
    """A client: send requests over one connection, and give the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        writer.write(json.dumps(request).encode() + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


async def main(count: int) -> None:
    with warmfork.Template(preload=["json", "statistics"], env="minimal", name="snippets") as template:
        server = await asyncio.start_server(lambda r, w: serve(template, r, w), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        good = [f"import statistics\nstatistics.mean([{n}, {n + 2}])" for n in range(count)]
        asked = [ask(port, {"run": code}) for code in good] + [ask(port, {"run": code}) for code in HOSTILE]
        answers = [one[0] for one in await asyncio.gather(*asked)]
        right = sum(one.get("result") == n + 1 for n, one in enumerate(answers[:count]))
        print(f"{right} of {count} snippets gave the right answer, and meanwhile:")
        for code, one in zip(HOSTILE, answers[count:], strict=True):
            print(f"  {code.splitlines()[-1]!r:50.50} {one['error']}")
        print("a session:", await ask(port, {"session": "x = 20"}, {"session": "x + 1"}, {"session": "1 / 0"}))
        server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
