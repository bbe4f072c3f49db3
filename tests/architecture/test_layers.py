"""Who may import whom (docs/design.md, section 9), function-level imports counted."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.sources import Import, find_knots, list_all, list_files, list_imports

ROOMS: dict[str, set[str]] = {
    "": set(),  # the public names are loaded by name, on first use
    "__main__": {"doors"},
    "_words": set(),
    "_machine": {"_words"},
    "_child": {"_machine", "_words"},
    "_tracker": {"_machine", "_words"},
    "_template": {"_child", "_machine", "_words"},
    "_client": {"_machine", "_words"},
    "doors": {"_client", "_machine", "_words"},
}
"""A room, and the rooms that it may import besides itself."""

EXCEPTIONS = {
    ("_tracker.main", "_template.main"): "the first template is a fork of the tracker: a second interpreter takes 8 ms",
    ("doors.bootstrap", "_child.birth"): "runs in template and child: it is the entry that birth hands over to",
    ("doors.bootstrap", "_child.ending"): "the same",
    ("doors.bootstrap", "_child.pickles"): "the same",
}

DOORS: dict[str, set[str]] = {
    # what several doors need, below them
    "options": set(),
    "startup": {"install", "resources"},
    "resources": {"startup"},
    "prepared": {"main_module", "options", "resources"},
    "beginning": {"options"},
    "popen": {"beginning", "bootstrap", "install", "main_module", "pickling", "prepared", "resources"},
    "bootstrap": {
        "context",
        "install",
        "main_module",
        "postponed",
        "resources",
        "pickling",
    },  # a child takes on the context or the install of its parent
    "main_module": set(),
    "postponed": set(),
    "pickling": set(),
    "facade": {"bootstrap", "install", "resources"},
    # the doors
    "template": {"options", "startup"},
    "context": {"beginning", "options", "popen", "prepared", "resources"},
    "install": {"beginning", "facade", "options", "popen", "prepared", "startup"},
    "track": {"options"},
    "cli": set(),
    "cli.run": {"cli"},
    "cli.ps": {"cli", "cli.census"},
    "cli.census": set(),
}
"""A module of doors/, and those beside it that it may import."""

KNOTS = {
    # Started is made before the loop's modules are imported, in the fork's parent.
    frozenset({"_tracker.generations", "_tracker.main", "_tracker.server", "_tracker.templates"}),
    # What multiprocessing's swap needs of each other; all but one of these edges are taken at the first use.
    frozenset(
        f"doors.{name}"
        for name in (
            "bootstrap",
            "context",
            "facade",
            "install",
            "popen",
            "prepared",
            "resources",
            "startup",
        )
    ),
}
"""Modules that reach each other, which only function-level imports make possible. None is to be added."""

PURE = {"__future__", "_collections", "_struct", "marshal"}
"""All that the words may import of Python: nothing that touches the machine."""


def get_room(module: str) -> str:
    return module.partition(".")[0]


def list_between_rooms() -> list[Import]:
    return [found for found in list_all()[0] if get_room(found.importer) != get_room(found.imported)]


def test_every_module_stands_in_a_room_that_has_a_rule():
    assert {get_room(name) for name in list_files()} == set(ROOMS)


def test_no_room_imports_another_than_its_rule_allows():
    forbidden = [
        str(found)
        for found in list_between_rooms()
        if found.imported != ""  # warmfork itself: names and no code
        and get_room(found.imported) not in ROOMS[get_room(found.importer)]
        and (found.importer, found.imported) not in EXCEPTIONS
    ]
    assert forbidden == []


def test_every_exception_is_needed():
    assert set(EXCEPTIONS) <= {(found.importer, found.imported) for found in list_between_rooms()}


def test_the_words_import_nothing_that_touches_the_machine():
    roots = {found.imported.partition(".")[0]: found for found in list_all()[1] if get_room(found.importer) == "_words"}
    assert {str(found) for root, found in roots.items() if root not in PURE} == set()


def test_no_room_below_the_doors_knows_multiprocessing():
    found = [
        str(found)
        for found in list_all()[1]
        if get_room(found.importer) != "doors" and found.imported.partition(".")[0] == "multiprocessing"
    ]
    assert found == []


def test_doors_import_one_another_as_the_table_says_and_no_otherwise():
    edges: dict[str, set[str]] = {
        name.partition(".")[2]: set() for name in list_files() if get_room(name) == "doors" and name != "doors"
    }
    for found in list_all()[0]:
        if get_room(found.importer) == get_room(found.imported) == "doors" and found.imported != "doors":
            edges[found.importer.partition(".")[2]].add(found.imported.partition(".")[2])
    assert edges == DOORS, "change the table together with the import, and say why where it is no longer thin"


def test_no_module_imports_itself_by_way_of_others():
    edges = {(found.importer, found.imported) for found in list_all()[0] if not found.in_function}
    assert find_knots(edges) == set()


def test_function_level_imports_tie_no_knot_that_is_not_known():
    edges = {(found.importer, found.imported) for found in list_all()[0] if found.importer != found.imported}
    assert find_knots(edges) == KNOTS


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
