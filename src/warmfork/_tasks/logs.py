"""Log records of a worker, on their way to the program: as data, for nobody there unpickles what a worker says unasked.

Each worker has a socket for that, with a message for each record. What does not fit in a message is cut.
"""

from __future__ import annotations

import logging

from warmfork._machine import sockets
from warmfork._tasks import values

LARGEST = 60_000
"""Bytes of a message, as between all processes here: the kernel's buffers have room for more of them then."""

LONGEST = (LARGEST, 10_000, 1000)
"""Characters of a text. The next is taken where the record is too large with this one."""

PATIENCE = 1.0
"""Seconds that a record waits for room, where the program is behind. After one that waited in vain none waits, until one has
gone."""

PLAIN = (bool, int, float, str, bytes, type(None))

MADE_HERE = frozenset({"args", "exc_info", "msg"})
"""What of a record is sent in another form."""


class Forwarder(logging.Handler):
    """Sends each record to the program."""

    def __init__(self, to: sockets.socket, worker: str) -> None:
        super().__init__()
        self.socket = to
        self.worker = worker
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, or count it as lost: a task never fails for what it logs."""
        try:
            data = pack(record, self.worker, self.lost)
            sockets.send_within(self.socket, data, timeout=0.0 if self.lost else PATIENCE)
            self.lost = 0
        except OSError:  # no room, or the program is gone
            self.lost += 1
        except Exception:
            self.handleError(record)


def pack(record: logging.LogRecord, worker: str, lost: int) -> bytes:
    """Give a record as bytes: its message and its traceback as text, and of the rest what is data. Raises ValueError where
    that is too much although its texts are cut."""
    found = {name: value for name, value in vars(record).items() if name not in MADE_HERE and type(value) in PLAIN}
    found["msg"] = record.getMessage()
    if record.exc_info and not record.exc_text:
        found["exc_text"] = logging.Formatter().formatException(record.exc_info)
    found["processName"] = worker
    for longest in LONGEST:
        for name, value in found.items():
            if isinstance(value, (str, bytes)):
                found[name] = value[:longest]
        data = values.encode((lost, found))
        if len(data) <= LARGEST:
            return data
    raise ValueError(f"a log record of {len(data):,} bytes is too large to be forwarded")


def forward(to: sockets.socket, level: int, worker: str) -> None:
    """Have all that this worker logs from this level on go to the program, and to nobody else."""
    root = logging.getLogger()
    root.handlers[:] = [Forwarder(to, worker)]
    root.setLevel(level)
