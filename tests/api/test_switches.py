"""Switches: each technique is off where an argument or the environment says so, and arguments win."""

from __future__ import annotations

import gc

import pytest

import warmfork
from warmfork._words.spec import TECHNIQUES
from warmfork.api.options import read_techniques

VARIABLES = ("WARMFORK_WITHOUT", *(f"WARMFORK_{name.upper()}" for name in TECHNIQUES))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_everything_is_on_unless_told_otherwise():
    assert read_techniques(None, None, None) == (-1, "auto", ())


@pytest.mark.parametrize("name", TECHNIQUES)
def test_each_technique_is_switched_off_by_argument_by_its_variable_and_by_the_list(name, monkeypatch):
    by_argument = read_techniques(None, None, [name])
    assert by_argument != (-1, "auto", ())
    for variable, value in ((f"WARMFORK_{name.upper()}", "0"), ("WARMFORK_WITHOUT", f" {name},")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert read_techniques(None, None, None) == by_argument


def test_arguments_win_over_variables(monkeypatch):
    monkeypatch.setenv("WARMFORK_SPARES", "0")
    monkeypatch.setenv("WARMFORK_HUGE_PAGES", "on")
    monkeypatch.setenv("WARMFORK_FREEZE", "0")
    assert read_techniques(None, None, None) == (0, "on", ("freeze",))
    assert read_techniques("auto", "auto", ()) == (-1, "auto", ())
    assert read_techniques(3, True, ["helper"]) == (3, "on", ("helper",))


def test_variables_say_numbers_and_words_as_the_options_do(monkeypatch):
    for value, spares in (("3", 3), ("auto", -1), ("", -1)):
        monkeypatch.setenv("WARMFORK_SPARES", value)
        assert read_techniques(None, None, None)[0] == spares
    for value, huge_pages in (("1", "on"), ("off", "off"), ("auto", "auto")):
        monkeypatch.setenv("WARMFORK_HUGE_PAGES", value)
        assert read_techniques(None, None, None)[1] == huge_pages


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WARMFORK_SPARES", "many"),
        ("WARMFORK_SPARES", "65"),
        ("WARMFORK_HUGE_PAGES", "sometimes"),
        ("WARMFORK_WITHOUT", "speed"),
        ("WARMFORK_FREEZE", "maybe"),
    ],
)
def test_a_variable_that_means_nothing_is_named(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        warmfork.Template()
    with pytest.raises(ValueError, match=variable):
        warmfork.get_context()


def test_an_option_that_means_nothing_is_refused():
    for options in ({"huge_pages": "huge"}, {"without": ["speed"]}, {"spares": 2, "without": ["spares"]}):
        with pytest.raises(ValueError, match=next(reversed(options))):
            warmfork.Template(**options)
        with pytest.raises(ValueError, match=next(reversed(options))):
            warmfork.get_context(**options)
    with pytest.raises(TypeError, match=r'\["freeze"\]'):
        warmfork.Template(without="freeze")


def count_frozen() -> int:
    return gc.get_freeze_count()


@pytest.mark.parametrize("preload", [(), ("tests.targets",)])
def test_without_freeze_the_template_s_objects_are_the_collector_s(preload):
    with warmfork.Template(preload=preload) as template:
        assert template.start(count_frozen).result(20) > 1000
    with warmfork.Template(preload=preload, without=["freeze"]) as template:
        for _ in range(3):
            # On 3.12 and 3.13 the collector sets immortal objects aside by itself, and 3.12 has 375 of its own.
            assert template.start(count_frozen).result(20) < 500


def has_helper() -> bool:
    from warmfork._child import ending

    return ending._make_helper is not None


def test_without_helper_a_child_leaves_plainly():
    with warmfork.Template(preload=["tests.targets"]) as template:
        assert template.start(has_helper).result(20)
    with warmfork.Template(preload=["tests.targets"], without=["helper"]) as template:
        assert not template.start(has_helper).result(20)
