"""Options: read once from arguments and variables, arguments win, what is wrong is refused by its name on every door."""

from __future__ import annotations

import gc
import math

import pytest

import warmfork
from tests.support import doing_without
from warmfork._words.spec import TECHNIQUES
from warmfork.api.options import DEFAULT, LONGEST_NAME, fit_name, read_options

VARIABLES = {
    "preload": ("json, numpy", ("json", "numpy")),
    "name": ("shop", "shop"),
    "on_preload_error": ("warn", "warn"),
    "audit": ("off", "off"),
    "spares": ("3", 3),
    "huge_pages": ("off", "off"),
    "start_timeout": ("2.5", 2.5),
    "orphans": ("keep", "keep"),
}
"""Each option, a text of its variable, and what that means."""

ARGUMENTS = {
    "preload": ([], ()),
    "name": ("other", "other"),
    "on_preload_error": ("raise", "raise"),
    "audit": ("refuse", "refuse"),
    "spares": (0, 0),
    "huge_pages": (True, "on"),
    "start_timeout": (None, None),
    "orphans": ("kill", "kill"),
}

DEFAULTS = {
    "preload": (), "name": None, "on_preload_error": "raise", "audit": "warn", "spares": -1, "huge_pages": "auto",
    "start_timeout": 120.0, "orphans": None,
}  # fmt: skip


def make_template(**options: object):
    return warmfork.Template(**options)._options


def make_context(**options: object):
    return warmfork.get_context(**options)._get_prepared().options


def make_installed(**options: object):
    from warmfork.mp.shared import installed

    warmfork.install(**options)
    try:
        return installed.peek().options
    finally:
        warmfork.uninstall()


DOORS = pytest.mark.parametrize("door", [make_template, make_context, make_installed])


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "without"):
        monkeypatch.delenv(f"WARMFORK_{name.upper()}", raising=False)


@DOORS
def test_everything_has_a_default(door):
    found = door()
    assert {name: getattr(found, name) for name in DEFAULTS} == DEFAULTS and found.without == ()


@DOORS
@pytest.mark.parametrize("option", VARIABLES)
def test_each_option_has_its_variable_and_arguments_win(door, option, monkeypatch):
    text, meaning = VARIABLES[option]
    monkeypatch.setenv(f"WARMFORK_{option.upper()}", text)
    assert getattr(door(), option) == meaning
    argument, meant = ARGUMENTS[option]
    assert getattr(door(**{option: argument}), option) == meant


@DOORS
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("preload", "json.py"),
        ("on_preload_error", "explode"),
        ("audit", "bogus"),
        ("spares", "many"),
        ("spares", "65"),
        ("huge_pages", "malloc"),
        ("start_timeout", "abc"),
        ("start_timeout", "-1"),
        ("orphans", "adopt"),
        ("without", "speed"),
    ],
)
def test_a_variable_that_means_nothing_is_named(door, option, text, monkeypatch):
    monkeypatch.setenv(f"WARMFORK_{option.upper()}", text)
    with pytest.raises(ValueError, match=f"WARMFORK_{option.upper()}={text}"):
        door()


@DOORS
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("preload", None, TypeError),
        ("preload", 5, TypeError),
        ("preload", "json", TypeError),
        ("preload", ["json.py"], ValueError),
        ("name", 5, TypeError),
        ("on_preload_error", "explode", ValueError),
        ("audit", "bogus", ValueError),
        ("spares", -2, ValueError),
        ("huge_pages", "malloc", ValueError),
        ("start_timeout", -1, ValueError),
        ("start_timeout", math.nan, ValueError),
        ("start_timeout", "5", TypeError),
        ("orphans", "adopt", ValueError),
    ],
)
def test_an_argument_that_means_nothing_is_named(door, option, value, error):
    with pytest.raises(error, match=option if option != "preload" else "preload"):
        door(**{option: value})


def test_a_variable_may_say_for_ever(monkeypatch):
    monkeypatch.setenv("WARMFORK_START_TIMEOUT", "none")
    assert read_options().start_timeout is None


@pytest.mark.parametrize("name", TECHNIQUES)
def test_each_technique_is_switched_off_by_the_list(name):
    usual = read_options().describe()
    with doing_without(name):
        assert read_options().describe() != usual
        assert read_options(spares="auto", huge_pages="auto").without == tuple({name} - {"spares", "huge_pages"})


def test_options_are_not_changed():
    with pytest.raises(AttributeError):
        read_options().spares = 3
    assert repr(DEFAULT) == "DEFAULT"


@pytest.mark.parametrize(
    ("name", "fitted"),
    [
        ("shop", "shop"),
        ("x" * 70_000, "x" * (LONGEST_NAME - 3) + "..."),
        ("店" * 70_000, "店" * ((LONGEST_NAME - 3) // 3) + "..."),
        ("a\0b\n", "a?b?"),
        ("\udc80", "?"),
    ],
)
def test_names_are_cut_and_readable(name, fitted):
    assert fit_name(name) == fitted
    assert len(fitted.encode()) <= LONGEST_NAME


LONG = "n" * 70_000 + "\0"


def test_a_child_with_a_long_name_is_started_on_every_door():
    with warmfork.Template(name=LONG) as template:
        children = [template.start(int, name=LONG), *template.start_many(int, [()], name=LONG)]
        assert [child.result(20) for child in children] == [0, 0]
        assert all(len(child.name) <= LONGEST_NAME + 2 for child in children)
    context = warmfork.get_context(name=LONG)
    process = context.Process(target=int, name=LONG)
    process.start()
    process.join(20)
    assert process.exitcode == 0 and process.name == LONG


def count_frozen() -> int:
    return gc.get_freeze_count()


@pytest.mark.parametrize("preload", [(), ("tests.targets",)])
def test_without_freeze_the_template_s_objects_are_the_collector_s(preload):
    with warmfork.Template(preload=preload) as template:
        assert template.start(count_frozen).result(20) > 1000
    with doing_without("freeze"):
        template = warmfork.Template(preload=preload)
    with template:
        for _ in range(3):
            # On 3.12 and 3.13 the collector sets immortal objects aside by itself, and 3.12 has 375 of its own.
            assert template.start(count_frozen).result(20) < 500


def has_helper() -> bool:
    from warmfork._child import ending

    return ending._make_helper is not None


def test_without_helper_a_child_leaves_plainly():
    with warmfork.Template(preload=["tests.targets"]) as template:
        assert template.start(has_helper).result(20)
    with doing_without("helper"):
        template = warmfork.Template(preload=["tests.targets"])
    with template:
        assert not template.start(has_helper).result(20)
