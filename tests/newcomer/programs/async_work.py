"""Processes from asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor

import warmfork


def count(limit):
    return sum(1 for number in range(2, limit) if all(number % other for other in range(2, number)))


async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, mp_context=warmfork.get_context()) as executor:
        print(await asyncio.gather(*[loop.run_in_executor(executor, count, limit) for limit in (10, 100)]))
    with warmfork.Template() as template:
        print(await asyncio.to_thread(template.start(count, (50,)).result))


if __name__ == "__main__":
    asyncio.run(main())
