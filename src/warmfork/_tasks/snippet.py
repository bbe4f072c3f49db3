"""Somebody's code, run as `python -c` would run it: a fresh `__main__`, its lines in tracebacks, and none of our frames."""

from __future__ import annotations
import __future__

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any

ONLY_AST = 0x400
"""ast.PyCF_ONLY_AST, without the ast module."""

FUTURE = 0
for _name in __future__.all_feature_names:
    FUTURE |= getattr(__future__, _name).compiler_flag

MOST_CACHED, MOST_WAITING = 64, 64
"""Short snippets of a session whose code is kept, and snippets whose lines are, where no traceback asks for them."""


class Namespace:
    """A fresh `__main__`, in which one snippet runs, or one after the other."""

    def __init__(self) -> None:
        self.module = type(sys)("__main__")
        names = self.names = vars(self.module)
        names.update(__builtins__=sys.modules["builtins"], __loader__=sys.modules["_frozen_importlib"].BuiltinImporter)
        if sys.version_info < (3, 14):
            names["__annotations__"] = {}
        sys.modules["__main__"] = self.module
        sys.argv = ["-c"]
        self.flags = 0
        self.cache: dict[str | bytes, tuple[CodeType | None, CodeType | None]] = {}

    def run(self, code: str | bytes, name: str) -> object:
        """Run code, and give the value of its last line where that is an expression, else None. What the code raises
        comes through, SyntaxError included."""
        body, last = self.cache.get(code) or self.compile(code, name)
        if body is not None:
            exec(body, self.names)
        return eval(last, self.names) if last is not None else None

    def compile(self, code: str | bytes, name: str) -> tuple[CodeType | None, CodeType | None]:
        """Give the code but for a last expression, and that."""
        import _ast

        sources.add(name, code)
        # dont_inherit, or the code would have the __future__ imports of this file.
        tree: Any = compile(code, name, "exec", ONLY_AST | self.flags, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        body = compile(tree, name, "exec", self.flags, True) if tree.body else None
        if body is not None:
            self.flags |= body.co_flags & FUTURE
        value = compile(_ast.Expression(last.value), name, "eval", self.flags, True) if last is not None else None
        if len(code) < 1000:
            if len(self.cache) == MOST_CACHED:
                self.cache.clear()
            self.cache[code] = body, value
        return body, value

    def get_value(self, value: object) -> object:
        """Give the value of a snippet that is alone here: its last line's, else its variable `result`."""
        return self.names.get("result") if value is None else value


def cut(error: BaseException) -> TracebackType | None:
    """Give an exception's traceback without the frames of ours that are above the code."""
    traceback = error.__traceback__
    while traceback is not None and is_ours(traceback):
        traceback = traceback.tb_next
    return traceback


OURS = __file__.rpartition("/")[0] + "/"


def is_ours(traceback: TracebackType) -> bool:
    """Is this a frame of a file of this folder?"""
    return traceback.tb_frame.f_code.co_filename.startswith(OURS)


def describe(error: BaseException) -> tuple[str, str, str]:
    """Give an exception as data: the name of its type, its message, its traceback as text. It may be of a type whose
    methods fail, or lie."""
    from traceback import format_exception

    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str.__str__(str(error))
    except Exception as refusal:
        message = f"(no message: {type(refusal).__name__})"
    try:
        text = "".join(format_exception(kind, error, cut(error)))
    except Exception as refusal:
        text = f"{name}: {message}\n(no traceback: {type(refusal).__name__})\n"
    return name, message, text


def show(error: BaseException, text: str) -> None:
    """Show an exception on stderr, as an interpreter does at its end."""
    try:
        if sys.excepthook is sys.__excepthook__:
            sys.stderr.write(text)
        else:
            sys.excepthook(type(error), error, cut(error))
    except Exception:
        sys.__excepthook__(*sys.exc_info())


class Sources:
    """The lines of snippets, for tracebacks: in linecache where that is loaded, and else as soon as somebody loads it. It
    brings tokenize and re, which a child that prints no traceback has no use for."""

    def __init__(self) -> None:
        self.waiting: dict[str, str | bytes] = {}
        self.watching = False

    def add(self, name: str, code: str | bytes) -> None:
        """Keep the lines of a snippet."""
        self.waiting[name] = code
        if len(self.waiting) > MOST_WAITING:
            del self.waiting[next(iter(self.waiting))]
        if "linecache" in sys.modules:
            self.enter()
        elif not self.watching:
            self.watching = True
            sys.modules["warmfork.startup"].watch("linecache", self.enter)

    def enter(self, _module: object = None) -> None:
        """Give linecache what is there."""
        from linecache import cache

        while self.waiting:
            name, code = self.waiting.popitem()
            if isinstance(code, bytes):
                try:
                    code = sys.modules["_frozen_importlib_external"].decode_source(code)
                except (SyntaxError, UnicodeDecodeError):
                    continue  # then there is no traceback with lines of it either
            cache[name] = len(code), None, code.splitlines(True), name


sources = Sources()
