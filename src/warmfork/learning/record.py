"""What was learnt of a program: its text, read with bounds, and what of it is worth preloading. Pure values."""

from __future__ import annotations

from math import isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD = "warmfork preload 1"
LARGEST = 1 << 18
"""Bytes of a record that are read: one that is larger is not ours."""

LARGEST_REPORTS = 1 << 16
"""Bytes from which on children report nothing more, until the next template has read it."""

MOST_MODULES = 500
LONGEST_NAME = 200
WORTH_MS = 1.0
"""What takes less to import is not worth a report."""

MOST_PRELOADED = 64
MOST_MS = 20_000.0
MOST_KIB = 1 << 20
"""So much may be preloaded without having been asked for: modules, their time, their memory."""

REMEMBERED = 1000
"""Children from which on older ones count half."""

THREADS, BLAS, SOCKET, GPU = "t", "b", "s", "g"
"""What a child saw while it imported: threads that are new, with OpenBLAS about; a socket; a GPU."""


class Module:
    """What is known of one module. `reason` says why it is left out, "" where it is not."""

    __slots__ = ("children", "flags", "kib", "listed", "ms", "name", "reason", "since", "stamp")

    def __init__(
        self,
        name: str,
        children: int = 0,
        ms: float = 0.0,
        kib: int = 0,
        flags: str = "",
        stamp: str = "",
        listed: bool = False,
        reason: str = "",
        since: int = 0,
    ) -> None:
        self.name, self.children, self.ms, self.kib = name, children, ms, kib
        self.flags, self.stamp, self.listed, self.reason = flags, stamp, listed, reason
        self.since = since  # how many children had been counted when it was first heard of

    def write(self) -> str:
        """Give it as a line."""
        fields = (
            self.name, self.children, f"{self.ms:.1f}", self.kib, self.flags, self.stamp, int(self.listed), self.since,
            self.reason,
        )  # fmt: skip
        return "\t".join(" ".join(str(field).split()) for field in fields)

    @classmethod
    def read(cls, line: str) -> Module:
        """Read a line. Raises ValueError."""
        name, children, ms, kib, flags, stamp, listed, since, reason = line.split("\t")
        return cls(
            check_name(name), read_number(children, 1 << 20), read_ms(ms), read_number(kib, 1 << 30),
            flags[:8], stamp[:80], listed == "1", reason[:300], read_number(since, 1 << 30),
        )  # fmt: skip


class Record:
    """What is known of a program: its modules, how many children were counted, and how often nothing was new."""

    __slots__ = ("born", "modules", "program", "quiet", "runs")

    def __init__(self, program: str) -> None:
        self.program = program  # script and interpreter
        self.modules: dict[str, Module] = {}
        self.born = self.quiet = self.runs = 0

    def write(self) -> str:
        """Give it as text."""
        lines = [HEAD, self.program, f"{self.born}\t{self.quiet}\t{self.runs}"]
        lines += [module.write() for module in self.modules.values()]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, text: str) -> Record:
        """Read what write() gave. Raises ValueError."""
        head, program, numbers, *lines = text.splitlines()
        if head != HEAD or len(lines) > MOST_MODULES:
            raise ValueError("it is no record of what was learnt")
        made = cls(program)
        made.born, made.quiet, made.runs = (read_number(word, 1 << 30) for word in numbers.split("\t"))
        made.modules = {module.name: module for module in map(Module.read, lines)}
        return made

    def merge(self, reports: bytes) -> bool:
        """Take what children have reported. Gives whether any of it was worth a change of the list."""
        self.runs += 1
        born, seen = read_reports(reports)
        since, self.born = self.born, self.born + born
        before = {name for name, module in self.modules.items() if module.listed or module.reason}
        for name, (children, ms, kib, flags) in seen.items():
            module = self.modules.get(name)
            if module is None:
                if len(self.modules) >= MOST_MODULES:
                    continue
                module = self.modules[name] = Module(name, ms=ms, kib=kib, since=since)
            module.children += len(children)
            module.ms, module.kib = max(module.ms, ms), max(module.kib, kib)
            module.flags = "".join(sorted({*module.flags, *flags}))
        if self.born > REMEMBERED:
            self.born //= 2
            for module in self.modules.values():
                module.children, module.since = module.children // 2, module.since // 2
        self.choose()
        changed = before != {name for name, module in self.modules.items() if module.listed or module.reason}
        if born:
            self.quiet = 0 if changed else self.quiet + 1
        return changed

    def choose(self) -> None:
        """List what at least half of the children needed, the dearest first, within the bounds."""
        count = sum(module.listed for module in self.modules.values())
        ms = sum(module.ms for module in self.modules.values() if module.listed)
        kib = sum(module.kib for module in self.modules.values() if module.listed)
        wanted = [
            module
            for module in self.modules.values()
            if not module.listed and not module.reason and 2 * module.children >= self.born - module.since > 0
        ]
        for module in sorted(wanted, key=lambda each: -each.ms * each.children / (1 + each.kib / 4096)):
            if {SOCKET, GPU} & {*module.flags}:
                module.reason = "it opens a socket" if SOCKET in module.flags else "it opens a GPU"
            elif count < MOST_PRELOADED and ms + module.ms <= MOST_MS and kib + module.kib <= MOST_KIB:
                module.listed = True
                count, ms, kib = count + 1, ms + module.ms, kib + module.kib

    def list_preload(self) -> list[Module]:
        """Give what is to be preloaded, the dearest first."""
        listed = [module for module in self.modules.values() if module.listed and not module.reason]
        return sorted(listed, key=lambda module: -module.ms)

    def forget_changed(self, stamps: Mapping[str, str]) -> None:
        """Forget modules whose files are others than when they were learnt of, and those that are not there any more."""
        for name, module in list(self.modules.items()):
            stamp = stamps.get(name, "")
            if not stamp or (module.stamp and module.stamp != stamp):
                del self.modules[name]
                self.quiet = 0
            else:
                module.stamp = stamp


def read_number(text: str, most: int) -> int:
    """Read a number of digits. Raises ValueError."""
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > most:
        raise ValueError(f"no number up to {most}: {text[:20]!r}")
    return int(text)


def read_ms(text: str) -> float:
    """Read milliseconds. Raises ValueError."""
    value = float(text) if len(text) <= 20 else -1.0
    if not isfinite(value) or not 0 <= value < 1e8:
        raise ValueError(f"no time: {text[:20]!r}")
    return value


def check_name(name: str) -> str:
    """Give a name that may be a module's. Raises ValueError."""
    parts = name.split(".")
    if len(name) > LONGEST_NAME or not all(part.isidentifier() for part in parts):
        raise ValueError(f"no name of a module: {name[:50]!r}")
    if parts[0] in ("warmfork", "__main__", "__mp_main__"):
        raise ValueError(f"not to be preloaded: {name}")
    return name


def write_report(child: int, name: str, ms: float, kib: int, flags: str) -> bytes:
    """Give a child's report of one import: a line."""
    return f"{child}\t{name}\t{ms:.1f}\t{max(0, kib)}\t{flags}\n".encode()


BORN = b"+\n"
"""A child's report that it is there."""


def read_reports(data: bytes) -> tuple[int, dict[str, tuple[set[int], float, int, set[str]]]]:
    """Read what children have reported: how many there were, and for each module by whom it was imported, its longest
    time, its largest memory, and flags. Lines that are none are left out: any child can write any."""
    born = 0
    found: dict[str, tuple[set[int], float, int, set[str]]] = {}
    for line in data[:LARGEST_REPORTS].split(b"\n"):
        if line == b"+":
            born += 1
            continue
        try:
            child, name, ms, kib, flags = line.decode().split("\t")
            spent, grew, pid = read_ms(ms), read_number(kib, 1 << 30), read_number(child, 1 << 30)
            check_name(name)
        except ValueError:
            continue
        if name not in found and len(found) >= MOST_MODULES:
            continue
        children, longest, largest, seen = found.get(name, (set(), 0.0, 0, set()))
        children.add(pid)
        found[name] = children, max(longest, spent), max(largest, grew), seen | ({*flags} & {*"tbsg"})
    return born, found


def describe(record: Record) -> Iterable[tuple[str, str, str, str, str]]:
    """Give rows for people: module, ms, MiB, children, and what is done with it."""
    for module in sorted(record.modules.values(), key=lambda each: (not each.listed, -each.ms)):
        what = f"left out: {module.reason}" if module.reason else "preloaded" if module.listed else "seldom needed"
        yield module.name, f"{module.ms:.1f}", f"{module.kib / 1024:.1f}", str(module.children), what
