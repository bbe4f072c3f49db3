"""What users get wrong: mypy and pyright report each line that says `# wrong`, and no other. It is checked, and not run."""

from __future__ import annotations

from typing import assert_never

import warmfork
from warmfork import Child, Executor, Exited, Outcome, Signaled, Template
from warmfork import Nonsense  # wrong


def scale(value: int, factor: float = 2.0, *, label: str = "") -> float:
    return value * factor + len(label)


def load() -> str:
    return ""


def names() -> None:
    warmfork.nonsense()  # wrong
    warmfork.get_contxt()  # wrong
    warmfork.Template.strat  # wrong


def templates() -> None:
    Template("numpy")  # wrong
    Template(numpy=True)  # wrong
    Template([1])  # wrong
    Template(audit="reject")  # wrong
    Template(on_preload_error="ignore")  # wrong
    Template(orphans="leave")  # wrong
    Template(spares="many")  # wrong
    Template(huge_pages="malloc")  # wrong
    Template(reload="always")  # wrong
    Template(start_timeout="3")  # wrong
    Template(env="small")  # wrong
    Template(env={"A": 1})  # wrong
    Template(name=3)  # wrong


def starts(t: Template) -> None:
    t.start()  # wrong
    t.start(3)  # wrong
    t.start("scale")  # wrong
    t.start(scale, 1)  # wrong
    t.start(scale, 1, 2)  # wrong
    t.start(scale)  # wrong
    t.start(scale, ())  # wrong
    t.start(scale, ("1",))  # wrong
    t.start(scale, (1, "2"))  # wrong
    t.start(scale, (1, 2, 3))  # wrong
    t.start(load, (1,))  # wrong
    t.start(load, "abc")  # wrong
    t.start(scale, (1,), ["x"])  # wrong
    t.start(scale, (1,), label="x")  # wrong
    t.start(scale, (1,), stdout="file")  # wrong
    t.start(scale, (1,), orphans="no")  # wrong
    t.start(lambda x: x)  # wrong
    t.start_many(scale, [1, 2])  # wrong
    t.start_many(scale, ["ab"])  # wrong
    t.start_many(scale, [("a",)])  # wrong
    t.start_many(scale, [(1,)], stdin=3)  # wrong


def results(t: Template, child: Child[int]) -> int:
    text: str = child.result()  # wrong
    also: str = t.start(scale, (1,)).result()  # wrong
    more: list[Child[int]] = t.start_many(scale, [(1,)])  # wrong
    child.wait("3")  # wrong
    child.results()  # wrong
    child.pid.name  # wrong
    child.outcome.returncode  # wrong
    print(text, also, more)
    return child.wait().returncode  # wrong


def outcomes(outcome: Outcome) -> None:
    if isinstance(outcome, (Exited, Signaled)):
        print(outcome.ok)
        print(outcome.reason)  # wrong
    else:
        assert_never(outcome)  # wrong


def runs(t: Template) -> None:
    t.run(scale, ("1",))  # wrong
    t.run(scale)  # wrong
    t.run(scale, (1,), timeout="3")  # wrong
    t.run(scale, (1,), memory="1G")  # wrong
    t.run("1", (1,))  # wrong
    t.run(3)  # wrong
    t.run("1", rlimits=[("nofile", 3)])  # wrong
    t.run("1", on_output=print, check="yes")  # wrong
    t.run("1", on_output=load)  # wrong
    number: int = t.run(load).result  # wrong
    t.run(load).stdou  # wrong
    with t.session(timeout=3) as s:  # wrong
        s.run(load)  # wrong
        s.run("1", stdin=3)  # wrong
    print(number)


async def waits(t: Template) -> None:
    number: int = (await t.arun(load)).result  # wrong
    await t.arun(scale, ("1",))  # wrong
    t.arun(load).result  # wrong
    print(number)


def contexts() -> None:
    ctx = warmfork.get_context("numpy")  # wrong
    warmfork.get_context(audit="yes")  # wrong
    warmfork.install(spares="1")  # wrong
    ctx.Pol(4)  # wrong
    ctx.Pool("4")  # wrong
    ctx.Queue(maxsize="3")  # wrong
    ctx.Process(traget=load)  # wrong
    ctx.Process(target=3)  # wrong
    ctx.Process(target=load, orphans="no")  # wrong
    ctx.set_forkserver_preload(["json"], on_error="raise")  # wrong
    ctx.start_many(3)  # wrong
    warmfork.get_child(3)  # wrong


def executors(executor: Executor) -> None:
    Executor("4")  # wrong
    Executor(4, max_worker=3)  # wrong
    Executor(4, preload="numpy")  # wrong
    Executor(4, retry_on=[3])  # wrong
    executor.submit(scale)  # wrong
    executor.submit(scale, "1")  # wrong
    executor.submit(scale, 1, lable="x")  # wrong
    text: str = executor.submit(scale, 1).result()  # wrong
    numbers: list[str] = list(executor.map(scale, [1]))  # wrong
    executor.with_options(timout=3)  # wrong
    executor.with_options(retries="3")  # wrong
    executor.with_options(timeout=3).submit(scale)  # wrong
    executor.submit(load).add_done_callback(scale)  # wrong
    print(text, numbers)


async def awaits(executor: Executor) -> None:
    number: int = await executor.asubmit(load)  # wrong
    await executor.asubmit(scale, "1")  # wrong
    print(number)


def tracks() -> None:
    warmfork.track("/tmp/x", "directory")  # wrong
    warmfork.track("/tmp/x", "file", scope="program")  # wrong
    warmfork.untrack("/tmp/x", "pipe")  # wrong
    warmfork.track(3, "file")  # wrong
