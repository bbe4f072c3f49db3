"""Times as users give them: seconds, or None for ever. One meaning, wherever one can be given."""

from __future__ import annotations


class Default:
    """Stands for an argument that was not given, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()


def check_seconds(option: str, seconds: object) -> None:
    """Check a time that somebody is to wait at most. Raises TypeError or ValueError, naming the option."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not hasattr(type(seconds), "__float__"):
        raise TypeError(f"{option} is a number of seconds, or None for ever, not {seconds!r}")
    if not float(seconds) >= 0:  # type: ignore[arg-type]  # NaN too
        raise ValueError(f"{option} is 0 seconds or more, or None for ever, not {seconds!r}")
