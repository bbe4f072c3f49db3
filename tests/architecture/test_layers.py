"""Who may import whom (docs/design.md, section 9), function-level imports counted."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.count import KERNEL
from tests.architecture.sources import Import, find_knots, list_all, list_files, list_imports

ROOMS: dict[str, set[str]] = {
    "": set(),  # the public names are loaded by name, on first use
    "__main__": {"cli"},
    "environment": set(),
    "report": {"_machine"},
    "startup": {"_tasks", "mp.client", "mp.shared", "report"},
    "_words": set(),
    "_machine": {"_words"},
    "_child": {"_machine", "_words"},
    "_tracker": {"_machine", "_words"},
    "_idle": {"_child", "_machine", "_template", "_words"},
    # The files that processes are started with put together what these are made of; a tracker may become a template.
    "_template.start": {"_idle", "_machine", "_template"},
    "_tracker.start": {"_idle", "_machine", "_names", "_template", "_tracker"},
    "_names": {"_machine", "_tracker", "_words"},
    "_template": {"_child", "_machine", "_words"},
    "learning": {"_machine", "_template"},  # a preload item, called in the template by its name
    "_client": {"_machine", "_words"},
    "_tasks": {"_child", "_machine", "_words"},
    "api": {"_client", "_machine", "_tasks", "_words", "startup"},
    "integrations": {"api"},  # and nobody imports them: whoever has the library does, by name
    # Of mp.client: where something is started.
    "mp.shared": {"_client", "_machine", "_tasks", "_words", "api", "mp.client"},
    "mp.child": {"_child", "_machine", "_words", "mp.shared"},
    "mp.client": {"_client", "_machine", "_words", "api", "mp.child", "mp.shared", "report"},
    # _child: doctor reseeds as a birth does. _tasks: ps reads what a worker runs.
    "cli": {"_child", "_machine", "_tasks", "_words", "api", "learning"},
}
"""A room, and the rooms that it may import besides itself."""

PURE = {"__future__", "_collections", "_signal", "_struct", "marshal"}  # of _signal the names of the signals
"""All that the words may import of Python: nothing that touches the machine."""

SAID = {"_tasks.frames", "_tasks.values", "_tasks.work"}
"""What is said to those who run tasks, and by them: words as the others are."""


def get_room(module: str) -> str:
    """The room of a module: its folder, and in `mp` the folder in that. A file with a rule of its own is one."""
    if module in ROOMS:
        return module
    first, _, rest = module.partition(".")
    return f"mp.{rest.partition('.')[0]}" if first == "mp" and rest else first


def list_between_rooms() -> list[Import]:
    return [found for found in list_all()[0] if get_room(found.importer) != get_room(found.imported)]


def test_every_module_stands_in_a_room_that_has_a_rule():
    assert {get_room(name) for name in list_files()} - {"mp"} == set(ROOMS)


def test_no_room_imports_another_than_its_rule_allows():
    forbidden = [
        str(found)
        for found in list_between_rooms()
        if found.imported != ""  # warmfork itself: names and no code
        and get_room(found.imported) not in ROOMS[get_room(found.importer)]
    ]
    assert forbidden == []


def test_the_kernel_knows_nothing_of_what_is_built_on_it():
    assert set().union(*(ROOMS[room] for room in KERNEL)) <= set(KERNEL)


def test_the_words_import_nothing_that_touches_the_machine():
    words = {name for name in list_files() if get_room(name) == "_words"} | SAID
    roots = {found.imported.partition(".")[0]: found for found in list_all()[1] if found.importer in words}
    assert {str(found) for root, found in roots.items() if root not in PURE} == set()
    ours = {found for found in list_all()[0] if found.importer in words and found.imported not in words | {""}}
    assert {str(found) for found in ours} == set()


def test_no_room_but_mp_knows_multiprocessing():
    found = [
        str(found)
        for found in list_all()[1]
        if not get_room(found.importer).startswith("mp") and found.imported.partition(".")[0] == "multiprocessing"
    ]
    assert found == []


def test_no_module_imports_itself_by_way_of_others():
    """Function-level imports and those for types counted."""
    edges = {(found.importer, found.imported) for found in list_all()[0] if found.importer != found.imported}
    assert find_knots(edges) == set()


# -- the rule can see


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import os", [("os", False, False)]),
        (
            "from warmfork._words import wire, messages",
            [("_words.wire", False, False), ("_words.messages", False, False)],
        ),
        ("from warmfork._words.wire import encode", [("_words.wire", False, False)]),
        ("def f():\n    if True:\n        import warmfork._machine.fds", [("_machine.fds", True, False)]),
        ("x = lambda: __import__('os')", []),
        ("if TYPE_CHECKING:\n    import os\nelse:\n    import sys", [("os", False, True), ("sys", False, False)]),
        ("class A:\n    import os\n    async def f(self): import sys", [("os", False, False), ("sys", True, False)]),
        ("try:\n    import os\nexcept ImportError:\n    import sys", [("os", False, False), ("sys", False, False)]),
    ],
)
def test_imports_are_seen_wherever_they_stand(text, seen):
    assert [(found.imported, found.in_function, found.for_types) for found in list_imports("m", text)] == seen


def test_a_relative_import_is_refused():
    with pytest.raises(ValueError, match="relative"):
        list_imports("m", "from . import x")


def test_knots_are_found():
    assert find_knots({("a", "b"), ("b", "c"), ("c", "d")}) == set()
    assert find_knots({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "d")}) == {frozenset("abc")}


def test_what_the_words_import_is_there_in_every_python():
    for name in PURE:
        __import__(name)
        assert name in sys.modules
