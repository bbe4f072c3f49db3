"""What users write: mypy --strict and pyright in strict mode find nothing to say. It is checked, and not run."""

from __future__ import annotations

import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.synchronize
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as AnyExecutor
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never, assert_type

import warmfork
from warmfork import Child, Completed, Exited, Lost, Outcome, PreloadError, Signaled, TaskFuture, Template

K = TypeVar("K")


def scale(value: int, factor: float = 2.0, *, label: str = "") -> float:
    return value * factor + len(label)


def load() -> dict[str, int]:
    return {}


def first(items: list[K]) -> K:
    return items[0]


def pick(number: int | None, names: Sequence[str] = ()) -> bool:
    return str(number) in names


def join(*parts: str) -> str:
    return "".join(parts)


class Model:
    def __init__(self, path: str, size: int = 3) -> None:
        self.path = path

    def predict(self, values: list[float]) -> list[int]:
        return [int(value) for value in values]

    @classmethod
    def load(cls, path: str) -> Model:
        return cls(path)

    @staticmethod
    def count(path: Path) -> int:
        return len(path.name)

    def __call__(self, name: str) -> bytes:
        return name.encode()


# -- a template


def use_template(rows: list[tuple[int, float]], parts: tuple[str, ...], names: list[str]) -> None:
    with warmfork.Template(
        preload=["json", "app.models:load"], name="app", audit="refuse", spares=4, orphans="keep", env={"A": "b"},
        on_preload_error="warn", huge_pages="auto", start_timeout=None, reload="check", cwd=Path("/"),
    ) as t:  # fmt: skip
        assert_type(t, Template)
        assert_type(t.start(load), Child[dict[str, int]])
        assert_type(t.start(load, ()), Child[dict[str, int]])
        assert_type(t.start(scale, (1, 2.5)).result(), float)
        assert_type(t.start(scale, (1,)).result(timeout=3), float)
        assert_type(t.start(scale, (1,), {"label": "x"}).result(), float)
        assert_type(t.start(scale, kwargs={"value": 1}, name="s", cwd="/tmp").result(), float)
        assert_type(t.start(scale, [1, 2.0]), Child[float])
        assert_type(t.start(join, ("a", "b", "c")).result(), str)
        assert_type(t.start(join, parts), Child[str])
        assert_type(t.start(Model, ("path",)).result(), Model)
        assert_type(t.start(Model("x").predict, ([1.0],)).result(), list[int])
        assert_type(t.start(Model.load, ("x",)).result(), Model)
        assert_type(t.start(Model.count, (Path("x"),)).result(), int)
        assert_type(t.start(Model("x"), ("name",)).result(), bytes)
        assert_type(t.start(lambda: 3).result(), int)
        assert_type(t.start(print, ("hello",)).result(), None)
        assert_type(t.start(len, ("abc",)).result(), int)
        assert_type(t.start(first, (["x"],)).result(), str)
        assert_type(t.start(pick, (None, ["x"])).result(), bool)
        assert_type(t.start(partial(scale, 1), (2.0,)).result(), float)
        assert_type(t.start(sorted, ([3, 1],)).result(), list[int])
        assert_type(t.start(scale, list(rows[0])).result(), float)
        total: float = t.start(sum, ([1, 2],)).result()
        t.start(
            scale, (1,), stdin=warmfork.PIPE, stdout=sys.stderr, stderr=warmfork.STDOUT, env="minimal", orphans="kill"
        )
        many = t.start_many(scale, rows, name="rows")
        assert_type(many, list[Child[float]])
        assert_type([child.result() for child in many], list[float])
        t.start_many(scale, [(1, 1.5), (2, 2.5)])
        t.start_many(join, [(name,) for name in names])
        t.start_many(join, zip(names, names, strict=True))
        t.start_many(scale, [[1], [2, 3.0]])
        assert_type(t.start_many(pick, ((n, ["x"]) for n in range(3))), list[Child[bool]])
        assert_type(t.start_many(os.getpid, [()] * 3), list[Child[int]])
        t.wait_ready(timeout=3)
        assert_type(t.pid, int | None)
        assert_type(t.preload, tuple[str, ...])
        del total


def use_preloads(generated: Iterator[str]) -> None:
    Template(["numpy"])
    Template(("numpy", "pandas"))
    Template({"numpy"})
    Template({"numpy": 1}.keys())
    Template("auto")
    Template(["auto", "numpy"])
    Template(generated)
    Template(name for name in ["numpy"])


def use_child(child: Child[int]) -> str:
    wider: list[Child[float] | Child[object]] = [child]
    wider[0].kill()
    unparametrized: Child = child
    with child as same:
        assert_type(same, Child[int])
    assert_type(unparametrized.result(), Any)
    assert_type(child.pid, int)
    assert_type(child.outcome, Exited | Signaled | Lost | None)
    if child.usage is not None:
        assert_type(child.usage.peak_rss, int)
    if child.stdout is not None:
        assert_type(child.stdout.read(), bytes)
    outcome: Outcome = child.wait()
    match outcome:
        case Exited(code):
            assert_type(code, int)
            return f"exit {code}"
        case Signaled(number, dumped):
            assert_type(dumped, bool)
            return f"signal {number} {outcome.signal_name} {outcome.why}"
        case Lost(reason):
            return reason
        case _:
            assert_never(outcome)


# -- running code


def use_run(t: Template, source: bytes) -> None:
    done = t.run(scale, (1, 2.0), timeout=3, memory_limit=1 << 20, capture_output=True, text=True)
    assert_type(done, Completed[float])
    assert_type(done.result, float)
    assert_type(t.run(load).result, dict[str, int])
    assert_type(t.run(scale, kwargs={"value": 1}).result, float)
    assert_type(t.run(scale, (1,), {"factor": 1}, check=True).result, float)
    assert_type(t.run("1 + 1", rlimits={"nofile": (10, 20)}).result, Any)
    assert_type(t.run(source, input="x").result, Any)
    assert_type(done.duration, float)
    assert_type(done.outcome, Exited | Signaled | Lost | None)
    if done.error is not None:
        assert_type(done.error.traceback, str)

    def show(stream: str, said: str) -> None:
        print(stream, said)

    t.run("print(1)", on_output=show, text=True)
    with t.session(text=False, rlimits={"nofile": 10}) as s:
        assert_type(s, warmfork.Session)
        assert_type(s.run("1", timeout=3), Completed[Any])
        assert_type(s.pid, int)
    try:
        t.run("while True: pass", cpu_limit=0.5)
    except warmfork.TimeLimitExceeded as error:
        assert_type(error.limit, Literal["memory", "cpu", "output", "time"])
    except (PreloadError, warmfork.ChildError) as error:
        print(error)


async def use_arun(t: Template) -> None:
    done = await t.arun(scale, (3,), name="scale")
    assert_type(done, Completed[float])
    assert_type((await t.arun("1")).result, Any)
    async with t.session() as s:
        assert_type(await s.arun("x = 1"), Completed[Any])
        await s.areset()


# -- contexts


def use_context() -> None:
    ctx = warmfork.get_context(preload=["numpy"], spares="auto", audit="off")
    assert_type(ctx.Pool(4), multiprocessing.pool.Pool)
    with ctx.Pool(2, initializer=load) as pool:
        assert_type(pool.map(scale, [1, 2]), list[float])
    assert_type(ctx.Queue(), "multiprocessing.queues.Queue[Any]")
    assert_type(ctx.Lock(), multiprocessing.synchronize.Lock)
    assert_type(ctx.Event(), multiprocessing.synchronize.Event)
    assert_type(ctx.Value("i", 3).value, Any)
    reader, writer = ctx.Pipe(duplex=False)
    writer.send(1)
    print(reader.recv(), ctx.cpu_count())
    process = ctx.Process(target=scale, args=(1,), kwargs={"factor": 2}, name="p", daemon=True, orphans="keep")
    process.start()
    process.join(timeout=3)
    assert_type(process.exitcode, int | None)
    assert_type(warmfork.get_child(process).wait(), Exited | Signaled | Lost)
    ctx.start_many([process])
    ctx.set_forkserver_preload(["json"], on_error="ignore")
    ctx.wait_ready()
    assert_type(ctx.template_pid, int | None)
    ctx.stop_template()
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert_type(executor.submit(scale, 1).result(), float)
    warmfork.install(["numpy"], orphans="kill", huge_pages=True)
    warmfork.uninstall()


# -- the executor


def use_executor(t: Template, anyhow: AnyExecutor) -> None:
    with warmfork.Executor(
        4, template=t, timeout=3.0, retries=2, retry_on=[warmfork.WorkerDied], orphans="keep"
    ) as executor:
        assert_type(executor, warmfork.Executor)
        future = executor.submit(scale, 1, factor=2)
        assert_type(future, TaskFuture[float])
        assert_type(future.result(), float)
        standard: Future[float] = future
        assert_type(future.name, str)
        assert_type(future.pid, int | None)
        assert_type(future.attempts, int)
        future.add_done_callback(note)
        future.add_done_callback(note_any)
        assert_type(list(executor.map(scale, [1, 2], chunksize=2)), list[float])
        assert_type(list(executor.map_unordered(load)), list[dict[str, int]])
        assert_type([each.result() for each in as_completed([future])], list[float])
        limited = executor.with_options(timeout=1, name="limited", retry_on=(OSError,))
        assert_type(limited.submit(load), TaskFuture[dict[str, int]])
        assert_type(next(limited.map(scale, [1])), float)
        executor.warm(2, timeout=3)
        executor.stats()["workers"]
        del standard
    anyhow = warmfork.Executor()
    anyhow.submit(scale, 1)


def note(future: TaskFuture[float]) -> None:
    print(future.output)


def note_any(future: Future[float]) -> None:
    print(future.result())


async def use_asubmit(executor: warmfork.Executor) -> None:
    assert_type(await executor.asubmit(scale, 1, factor=3.0), float)
    assert_type(await executor.with_options(timeout=3).asubmit(load), dict[str, int])


# -- the rest


def use_track(path: Path) -> None:
    warmfork.track(path, "folder", scope="process")
    warmfork.untrack(str(path), "file")
    print(warmfork.__version__)


def wrap(t: Template, fn: Callable[[int], str], any_fn: Callable[..., str], args: tuple[Any, ...]) -> list[Child[str]]:
    return [t.start(fn, (3,)), t.start(any_fn, args), t.start(any_fn, args, {"x": 1})]
