"""The messages: who says what to whom, as frozen values.

A message is a tuple with names. dataclasses would say the same in fewer lines of ours, but importing it costs a
template 8 to 10 ms (it brings inspect, ast and dis), more than everything else here together.
"""

from __future__ import annotations

from _collections import _tuplegetter  # what collections.namedtuple uses, without its import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T", bound="Message")

    @dataclass_transform(frozen_default=True)
    class Named:
        """What type checkers take Message for."""

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def __iter__(self) -> Any: ...
else:
    Named = tuple


class Message(Named):
    """Base of all messages: `class Spawn(Message, tag=20)` with annotated fields of int, str, bytes or tuple[str, ...]."""

    if not TYPE_CHECKING:
        __slots__ = ()
        TAG = 0
        FIELDS = ()
        KINDS = ()

        def __init_subclass__(cls, *, tag):
            annotations = cls.__annotations__
            cls.TAG = tag
            cls.FIELDS = tuple(annotations)
            cls.KINDS = tuple(annotations.values())
            for index, field in enumerate(cls.FIELDS):
                setattr(cls, field, _tuplegetter(index, field))
            if tag in BY_TAG:
                raise TypeError(f"tag {tag} of {cls.__name__} is taken by {BY_TAG[tag].__name__}")
            BY_TAG[tag] = cls

        def __new__(cls, *values, **named):
            if named:
                values += tuple(named.pop(field) for field in cls.FIELDS[len(values) :])
            if named or len(values) != len(cls.FIELDS):
                raise TypeError(f"{cls.__name__} takes the fields {', '.join(cls.FIELDS)}")
            return tuple.__new__(cls, values)

        def __eq__(self, other):
            return type(self) is type(other) and tuple.__eq__(self, other)

        def __ne__(self, other):
            return not self == other

        __hash__ = tuple.__hash__

        def __repr__(self):
            pairs = ", ".join(f"{field}={value!r}" for field, value in zip(self.FIELDS, self, strict=True))
            return f"{type(self).__name__}({pairs})"

    else:

        def __init_subclass__(cls, *, tag: int) -> None: ...

        TAG: ClassVar[int]
        FIELDS: ClassVar[tuple[str, ...]]
        KINDS: ClassVar[tuple[str, ...]]


BY_TAG: dict[int, type[Message]] = {}


# The door: any process of the tree -> tracker. One way; an answer, where there is one, comes on the socket sent along.
class Hello(Message, tag=1):
    """I want a channel to the template of this spec. Fds: channel end, pidfd on myself, spec, door, and my 1 and 2."""

    pid: int
    failed: int  # 1: my last channel ended without an answer; tell me why rather than start another template
    stdio: int  # bit 0: fd 1 follows, bit 1: fd 2 follows; bit 2: it has to be started by exec


class Register(Message, tag=2):
    """This name is the tree's: remove it when that ends. Fds: for a file or a folder, what it is in (O_PATH)."""

    kind: str
    name: str


class Unregister(Message, tag=3):
    """This name was removed by its owner."""

    kind: str
    name: str


class Track(Message, tag=9):
    """I hold this name: remove it when its last holder is dead. Fds: a pidfd on myself, and as for Register."""

    kind: str
    name: str


class Untrack(Message, tag=14):
    """I hold this name no longer. Nothing is removed."""

    kind: str
    name: str


class Ask(Message, tag=4):
    """What became of the process of this pid that lived at this moment (ns since boot)? Fds: a socket for a Fate."""

    pid: int
    moment: int


class StdlibTrackerRuns(Message, tag=5):
    """multiprocessing's own tracker runs in this tree as well, so names may be gone before their turn."""


class Sweep(Message, tag=6):
    """Report and remove all names now. From the root of the tree only. Fds: a socket for one NamesSwept."""


class GiveUp(Message, tag=8):
    """I want this template no longer: end it if it preloads, and nobody else waits. Fds: its spec, a socket for a Died."""


class Hung(Message, tag=15):
    """This template has not answered me for too long: end it if it hangs."""

    pid: int


class Door(Message, tag=18):
    """Another door, for one that somebody has shut. From the root of the tree only. Fds: its receiving end."""


class Inherit(Message, tag=16):
    """A template that the tracker before you has started. From the root of the tree only. Fds: a pidfd on it, its board."""

    generation: int
    pid: int
    name: str


# Answers of the tracker, each the only message on its socket.
class Fate(Message, tag=10):
    """A process that the tracker reaped: `known` is 0 where it has no status of it."""

    pid: int
    known: int
    status: int  # as of waitpid()
    user_us: int
    system_us: int
    peak_kib: int
    ended_us: int  # when it was reaped (monotonic)
    stack: str  # these two as in Evidence
    why: str


class Refused(Message, tag=11):
    """No template, and why. Instead of a Welcome."""

    why: str
    rights: int  # 1: its children would have rights that you have not, and `why` is the difference


class Broken(Message, tag=17):
    """No template: it died so often within so many seconds, at last with this status (as of waitpid(), -1: unknown)."""

    deaths: int
    seconds: int
    status: int


class Died(Message, tag=12):
    """The generation that you asked about died before it was ready. Instead of a Welcome."""

    generation: int
    status: int  # as of waitpid()
    preloading: str  # the item that was being preloaded, or ""
    stderr: str  # the end of what it wrote after the seal


class NamesSwept(Message, tag=13):
    """How many names were left."""

    left: int


# The control socket: tracker <-> template.
class Launch(Message, tag=20):
    """Become this generation. Fds: spec, board, log, door, stacks."""

    generation: int


class Adopt(Message, tag=21):
    """A client. Fds: its channel, its pidfd."""

    pid: int


class Sealed(Message, tag=22):
    """The template serves."""

    generation: int


# The channel: client <-> template.
class Welcome(Message, tag=30):
    """The template serves you. Fds: a pidfd on it, and its board, to be read."""

    generation: int
    pid: int
    cwd_device: int
    cwd_inode: int
    environment: tuple[str, ...]  # what the template was born with, or nothing where that is too large to say
    notes: tuple[str, ...]  # what the preload and the audit found and policy let pass, for the client's log


class PreloadFailed(Message, tag=31):
    """No children from this template: a preload failed, and policy said that none is better than one without it."""

    module: str
    cause: str
    traceback: str


class Unsafe(Message, tag=36):
    """No children from this template: the audit found what no child would survive, or what policy refuses."""

    findings: tuple[str, ...]


class Spawn(Message, tag=32):
    """Fork one child for me. `kill` says what to do with it if I die: 1 end it, 0 keep it."""

    request: int
    kill: int
    name: str


class SpareTaken(Message, tag=37):
    """I fed this spare: it is a child now. No answer; said after the fact, so that a start is one send to the spare."""

    pid: int
    kill: int
    name: str


class Wanted(Message, tag=44):
    """I have loaded these modules, which my children will want as well. It loads those that it knows by name."""

    names: tuple[str, ...]


class Spawned(Message, tag=33):
    """The child exists; no user code has run. Fds: pidfd, the sending end of its feed. Request 0: a spare."""

    request: int
    pid: int


class SpawnFailed(Message, tag=34):
    """The kernel refused: nothing was started."""

    request: int
    errno: int
    step: str


class Noted(Message, tag=50):
    """For your log: something that this template does without, found out after the Welcome. It costs speed only."""

    text: str


class Exited(Message, tag=35):
    """A child of yours is dead and reaped."""

    pid: int
    status: int  # as of waitpid()
    user_us: int
    system_us: int
    peak_kib: int
    ended_us: int  # when it was reaped (monotonic)


class Evidence(Message, tag=39):
    """What is known of a child's death besides its status. Said before the Exited."""

    pid: int
    stack: str  # the Python stack where a fault struck, as faulthandler wrote it, or ""
    why: str  # that memory had run out when a SIGKILL came, or ""


class Stuck(Message, tag=38):
    """A child of yours hung in this step of its birth, and was killed."""

    pid: int
    step: str


# The feed: client <-> its child. The first message down is not one of these: it is the feed itself (see feed.py).
class BirthFailed(Message, tag=40):
    """The child could not become what was asked: the step, and the traceback. It exits with code 1."""

    step: str
    cause: str
    traceback: str


class Became(Message, tag=41):
    """State applied, payload unpickled: what was pickled for me need not be kept alive any longer."""


class BuffersAt(Message, tag=46):
    """Here is the memory for the buffers of my payload: write to it. `addresses`: 8 bytes for each mapping of theirs."""

    addresses: bytes


class Filled(Message, tag=47):
    """All is written. Or it is not, since the kernel forbids that: then the buffers follow, as `follows` bytes."""

    follows: int


class Returned(Message, tag=42):
    """The function returned: `size` bytes of pickle here or in the memfd sent along, and so many `buffers` with it."""

    size: int
    buffers: int
    inline: bytes


class Raised(Message, tag=43):
    """The function raised. As for Returned; `text` is the traceback where the exception itself could not be pickled."""

    size: int
    buffers: int
    inline: bytes
    text: str


# The ledger: begun by the program, written by the tracker, read by its successor and the program (see ledger.py).
class Root(Message, tag=7):
    """Whose tree it is: the program of this pid, started at `since` (ns since boot)."""

    pid: int
    since: int
    name: str
    prefix: str  # how the names of this tree's semaphores begin in /dev/shm


class Entered(Message, tag=70):
    """A name was registered, by this process. `device` and `inode` are those of what a file or folder is in."""

    kind: str
    name: str
    maker: int
    title: str
    device: int
    inode: int


class NameHeld(Message, tag=71):
    """A name is held by this process, started at `since` (ns since boot). The rest as for Entered."""

    kind: str
    name: str
    holder: int
    since: int
    title: str
    device: int
    inode: int


class Dropped(Message, tag=72):
    """A name is held no longer by this process (0: by any, and it is nobody's)."""

    kind: str
    name: str
    holder: int


class Reported(Message, tag=73):
    """Something for the program's log, at `level`. Numbered from 1 on: a ledger written anew has it once more."""

    number: int
    level: int
    text: str
