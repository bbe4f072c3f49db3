"""What a command of `warmfork` is: its options, its help, how its words are read.

Help, shell completion and the documentation's page are made from the same objects. `warmfork run` imports this before
the program starts, so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class BadUsage(Exception):
    """A wrong call: what is wrong, and what to do."""


class Option:
    """An option. `value` is what its help calls its value: "" for a switch. `check` says what is wrong with one.

    `variable` is the environment variable that it sets."""

    __slots__ = ("choices", "meaning", "names", "value", "variable")

    def __init__(
        self, names: str, meaning: str, value: str = "", choices: Sequence[str] = (), variable: str = ""
    ) -> None:
        self.names = names.split(", ")
        self.meaning, self.value, self.choices, self.variable = meaning, value, choices, variable

    def describe(self) -> str:
        """Give it as its help shows it."""
        return ", ".join(self.names) + (f" {self.value}" if self.value else "")

    def check(self, value: str) -> str:
        """Give the value. Raises BadUsage where it is none of the choices."""
        if self.choices and value not in self.choices:
            raise BadUsage(
                f'{self.names[-1]} is one of {", ".join(self.choices)}, not "{value}"', "choose one of these"
            )
        return value


HELP = Option("-h, --help", "show this")


class Command:
    """A command: `text` is paragraphs, `examples` are pairs of a command and what it does, `codes` the exit codes."""

    def __init__(
        self,
        name: str,
        usage: str,
        text: str,
        options: Sequence[Option] = (),
        examples: Sequence[tuple[str, str]] = (),
        codes: Sequence[tuple[str, str]] = (("0", "all is well"), ("2", "a wrong call")),
        words: Sequence[str] = (),
        more: str = "",
    ) -> None:
        self.name, self.usage, self.text, self.more = name, usage, text, more
        self.options = [*options, HELP]
        self.examples, self.codes, self.words = examples, codes, words

    def find(self, name: str) -> Option:
        """Give the option of this name. Raises BadUsage."""
        for option in self.options:
            if name in option.names:
                return option
        known = ", ".join(option.names[-1] for option in self.options)
        raise BadUsage(f'warmfork {self.name} takes no "{name}"', f"it takes {known}; see warmfork {self.name} --help")

    def parse(self, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Read the options and the other words. An option's value is under its last name without dashes. Raises
        BadUsage."""
        given: dict[str, str] = {}
        rest: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if not word.startswith("-"):
                if word not in self.words:
                    self.find(word)
                rest.append(word)
                continue
            name, equals, value = word.partition("=")
            option = self.find(name)
            if option.value and not equals:
                if not left:
                    raise BadUsage(f"{name} needs a value: {option.describe()}", f"see warmfork {self.name} --help")
                value = left.pop(0)
            elif equals and not option.value:
                raise BadUsage(f"{name} takes no value", f"write {name} alone")
            given[option.names[-1].lstrip("-")] = option.check(value) if option.value else "yes"
        return given, rest

    def help(self) -> str:
        """Give what --help prints, in lines of at most 80 letters."""
        from textwrap import fill

        parts = [f"usage: warmfork {self.name} {self.usage}".rstrip()]
        parts += [fill(" ".join(part.split()), 80) for part in self.text.split("\n\n")]
        rows = [(option.describe(), option.meaning) for option in self.options]
        parts.append("Options:\n" + lay_out(rows))
        parts.append("Examples:\n" + "\n".join(f"  {line}\n      {what}" for line, what in self.examples))
        if self.more:
            parts.append(self.more)
        parts.append("Exit codes:\n" + lay_out(self.codes))
        return "\n\n".join(parts)


def lay_out(rows: Sequence[tuple[str, str]]) -> str:
    """Give pairs in two columns, the second wrapped."""
    from textwrap import fill

    width = min(24, max(len(left) for left, _ in rows) + 2)
    lines = []
    for left, right in rows:
        indent = " " * (width + 2)
        text = fill(right, 80, initial_indent=indent, subsequent_indent=indent)
        lines.append(f"  {left}\n{text}" if len(left) > width - 2 else f"  {left.ljust(width)}{text.lstrip()}")
    return "\n".join(lines)
