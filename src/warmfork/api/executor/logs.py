"""Log records of workers come to the program's loggers, in a thread of their own: handlers are the user's code."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from time import monotonic

from warmfork._machine import fds, sockets, state
from warmfork._tasks import values
from warmfork._tasks.logs import LARGEST

PATIENCE = 5.0
"""Seconds that shutdown() waits for handlers to be done with what has come."""

AS_TEXT = frozenset({"args", "exc_info"})
"""What is in the message and in `exc_text` by now."""


class Logs(threading.Thread):
    """The thread that reads what a worker logs, and its socket. Each worker has its own: one that says nonsense, or shuts
    it, has done that to itself."""

    def __init__(self, name: str, births: object) -> None:
        super().__init__(name=f"warmfork {name} logs", daemon=True)
        ours, theirs = sockets.make_pair()
        self.theirs = fds.Fd(theirs.detach())
        self.socket = sockets.adopt_socket(state.move_high(ours.detach()))
        self.closing = threading.Lock()  # the number of a closed socket may be another's
        self.worker = name
        self.births = births  # of its executor
        self.complained = False
        self.start()

    def run(self) -> None:
        """Hand on what comes, to the end."""
        try:
            while data := self.socket.recv(LARGEST):
                try:
                    take(data)
                except Exception as error:  # nonsense, or of a filter of the program's
                    with suppress(Exception):
                        self.complain(error)
        finally:
            with self.closing:
                self.socket.close()

    def complain(self, error: Exception) -> None:
        """Say once that a record can't be handed on."""
        if not self.complained:
            self.complained = True
            logging.getLogger("warmfork.executor").warning(
                "a log record of %s was not handed on: %s: %s", self.worker, type(error).__name__, error
            )

    def close(self) -> None:
        """The worker is dead. The thread goes on to the end of what has come; a process that it has left behind is not
        waited for."""
        with self.closing, suppress(OSError):  # the thread was there before
            self.socket.shutdown(sockets.SHUT_RD)

    def drop(self) -> None:
        """In a forked copy, which has no such thread: let go of the socket alone. To shut it would shut the original's."""
        self.socket.close()


def wait_for_all(births: object = None) -> None:
    """Wait until handlers have had what has come, of one executor or of all; or for PATIENCE."""
    until = monotonic() + PATIENCE
    for thread in threading.enumerate():
        if isinstance(thread, Logs) and births in (None, thread.births) and thread is not threading.current_thread():
            thread.join(max(0.0, until - monotonic()))


def find_level() -> int:
    """Give the lowest level that any of the program's loggers lets through."""
    levels = [logging.root.level]
    for logger in list(logging.root.manager.loggerDict.values()):  # at once: other threads make loggers
        if isinstance(logger, logging.Logger) and logger.level:
            levels.append(logger.level)
    return max(1, min(levels))  # 0 is no level


def find_logger(name: str) -> logging.Logger:
    """Give the logger of this name, or the next one above it that there is: who makes up names makes no loggers here."""
    known = logging.root.manager.loggerDict
    while name:
        logger = known.get(name)
        if isinstance(logger, logging.Logger):
            return logger
        name = name.rpartition(".")[0]
    return logging.root


def take(data: bytes) -> None:
    """Hand a record on. Raises ValueError, TypeError, AttributeError for what is none."""
    lost, found = values.decode(data)
    if int(lost):
        logging.getLogger("warmfork.executor").warning(
            "%d log records of a worker are lost: the handlers of this program did not keep up", lost
        )
    record = logging.makeLogRecord({name: value for name, value in found.items() if is_value(name)})
    logger = find_logger(str(record.name))
    # Not by isEnabledFor(), which remembers each level that it was ever asked for.
    if record.levelno >= logger.getEffectiveLevel() and record.levelno > logger.manager.disable:
        logger.handle(record)


def is_value(name: object) -> bool:
    """May a record have this attribute from afar: one of its own, or from `extra`, that hides nothing which it can do?"""
    return isinstance(name, str) and name not in AS_TEXT and not hasattr(logging.LogRecord, name)
