"""Counts the starts of both engines, in every interpreter of a suite; a `.pth` in site-packages imports this.

With ENGINE "warmfork" a start by the stdlib's engine raises after it was counted, so that a leak is loud.
multiprocessing is not imported here: a test of CPython's demands that a start-up does not.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import PathFinder

_path = os.environ["WARMFORK_CONFORMANCE_STARTS"]
_engine = os.environ["WARMFORK_CONFORMANCE_ENGINE"]


def _record(engine: str) -> None:
    # One line, one write: the appends of many processes do not mix.
    fd = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{engine} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


def _count_stdlib(module: object) -> None:
    server = module.ForkServer
    connect = server.connect_to_new_process

    def connect_to_new_process(self: object, fds: object) -> object:
        _record("stdlib")
        if _engine != "stdlib":
            raise RuntimeError("a process was about to be started by the stdlib's forkserver instead of warmfork")
        return connect(self, fds)

    server.connect_to_new_process = connect_to_new_process
    # The module's function is a method bound before the class was changed.
    module.connect_to_new_process = module._forkserver.connect_to_new_process


def _count_warmfork(module: object) -> None:
    popen = module.Popen
    begin = popen.__init__

    def __init__(self: object, *args: object, **kwargs: object) -> None:
        _record("warmfork")
        begin(self, *args, **kwargs)

    popen.__init__ = __init__


def _count_executor(module: object) -> None:
    births = module.Births
    bear = births.bear_one

    def bear_one(self: object) -> object:
        _record("warmfork")
        return bear(self)

    births.bear_one = bear_one


def _replace_executor(module: object) -> None:
    if os.environ.get("WARMFORK_CONFORMANCE_EXECUTOR"):
        import conformance_executor

        conformance_executor.replace(module)


_PATCHES = {
    "multiprocessing.forkserver": _count_stdlib,
    "warmfork.mp.client.popen": _count_warmfork,
    "warmfork.api.executor.births": _count_executor,
    "concurrent.futures.process": _replace_executor,
}


def find_spec(name: str, path: object = None, target: object = None) -> object:
    """As a meta-path finder (this module is one): let the path finder find, then patch what was executed."""
    patch = _PATCHES.get(name)
    if patch is None:
        return None
    spec = PathFinder.find_spec(name, path, target)
    if spec is None:
        return None
    loader = spec.loader
    execute = loader.exec_module

    def exec_module(module: object) -> None:
        del loader.exec_module
        execute(module)
        patch(module)

    loader.exec_module = exec_module
    return spec


sys.meta_path.insert(0, sys.modules[__name__])
