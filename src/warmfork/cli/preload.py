"""`warmfork preload`: what preload="auto" has learnt of a program, and how to have it forgotten."""

from __future__ import annotations

from warmfork.cli.command import BadUsage, Command, Option

COMMAND = Command(
    "preload",
    "(show | forget) FILE",
    """
    Shows what preload="auto" has learnt of the program in FILE, or removes it, so that it is learnt anew. For a program
    that is started as a module (python -m app), FILE is the file of that module.
    """,
    [Option("--json", "with show: a list of objects instead, one for each module")],
    [
        ("warmfork preload show app.py", "which modules its templates have, and which were left out, and why"),
        ("warmfork preload forget app.py", "begin anew"),
    ],
    [("0", "all is well"), ("1", "nothing is known of it; or the output can't be written"), ("2", "a wrong call")],
    words=("show", "forget"),
)


def main(argv: list[str]) -> int:
    """Show or forget. Gives the exit code. Raises BadUsage; OSError where a file can't be removed."""
    given, _ = COMMAND.parse([word for word in argv if word.startswith("-")])
    words = [word for word in argv if not word.startswith("-")]
    if len(words) != 2 or words[0] not in COMMAND.words:
        raise BadUsage("warmfork preload wants show or forget, and a FILE", "for example: warmfork preload show app.py")
    from warmfork.learning import store
    from warmfork.learning.record import describe

    found = store.find_records(words[1])
    if words[0] == "forget":
        for base, _ in found:
            store.forget(base)
        print(f"forgotten: {words[1]}" if found else f"nothing is known of {words[1]}")
        return 0 if found else 1
    if "json" in given:
        import json

        names = ("module", "ms", "mib", "children", "what")
        print(json.dumps([dict(zip(names, row, strict=True)) for _, each in found for row in describe(each)], indent=2))
        return 0 if found else 1
    from warmfork.cli import table

    if not found:
        print(f"nothing is known of {words[1]}")
        return 1
    for _, record in found:
        print(record.program)
        names = ("MS", "MIB", "CHILDREN", "MODULE", "WHAT")
        rows = [
            {"MS": ms, "MIB": mib, "CHILDREN": children, "MODULE": module, "WHAT": what}
            for module, ms, mib, children, what in describe(record)
        ]
        print("\n".join(table.lay_out(rows, names, table.get_width())))
    return 0
