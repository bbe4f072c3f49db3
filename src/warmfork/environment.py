"""The environment variables and loggers of warmfork, in one table: the documentation's page is made from it."""

from __future__ import annotations


class Variable:
    """An environment variable: its values, the default, what it means, and who reads it."""

    __slots__ = ("default", "meaning", "name", "reader", "values")

    def __init__(self, name: str, values: str, default: str, meaning: str, reader: str) -> None:
        self.name, self.values, self.default, self.meaning, self.reader = name, values, default, meaning, reader


HOOK = "the start-up hook, in each Python program"
INSTALLED = "`install()` and `warmfork run`"
DOORS = "`Template`, `get_context()`, `install()` and `warmfork run`"
SWITCH = "0 or 1"

VARIABLES = (
    Variable("WARMFORK_RUN", SWITCH, "0", "1: warmfork serves this program, as under `warmfork run`", HOOK),
    Variable("WARMFORK_KEEP_DEFAULT", SWITCH, "0", "1: `warmfork run` leaves the default start method", HOOK),
    Variable("WARMFORK_REPORT", SWITCH, "0", "1: say at the end which processes were started, and by whom", INSTALLED),
    Variable(
        "WARMFORK_PRELOAD",
        "names with commas; auto",
        "",
        "what the template imports, and calls; auto: what this program's children have imported before",
        DOORS,
    ),
    Variable(
        "WARMFORK_NAME", "a name", "the program's", "what `warmfork ps` and the logs call the template", INSTALLED
    ),
    Variable("WARMFORK_ON_PRELOAD_ERROR", "raise, warn", "raise", "what happens where a preload fails", DOORS),
    Variable(
        "WARMFORK_AUDIT",
        "refuse, warn, off",
        "warn",
        "what happens where a preload leaves threads behind, or other things that do not survive a fork",
        DOORS,
    ),
    Variable("WARMFORK_START_TIMEOUT", "seconds, none", "120", "how long a template may take to preload", DOORS),
    Variable(
        "WARMFORK_ORPHANS",
        "kill, keep",
        "kill for a Template; a process of multiprocessing is kept unless it is a daemon",
        "what becomes of children whose program dies",
        DOORS,
    ),
    Variable("WARMFORK_SPARES", "auto, 0 to 64", "auto", "how many children are forked ahead", DOORS),
    Variable("WARMFORK_HUGE_PAGES", "auto, on, off", "auto", "whether memory is put into huge pages", DOORS),
    Variable("WARMFORK_WITHOUT", "names with commas", "", "techniques to do without: see the page on switches", DOORS),
    Variable(
        "WARMFORK_BIRTH_TIMEOUT",
        "seconds",
        "10",
        "how long a child may take from its fork to its call",
        "each template",
    ),
)

LOGGERS = (
    ("warmfork", "what templates have to say: preloads that failed, threads that a preload left, deaths"),
    ("warmfork.executor", "what an executor does without telling a future: births that failed, callbacks that raised"),
    ("warmfork.tracker", "what the tracker has cleaned up after processes that ended, and which template died"),
)
"""The loggers, and what they are told. They are the program's own: nothing is printed unless it says so, but for
warnings, which Python prints on stderr where nobody has set up logging."""
