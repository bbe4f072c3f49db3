from __future__ import annotations

import pytest
from hypothesis import given

from tests.words.examples import build, make
from warmfork._words import wire
from warmfork._words.spec import Spec, identify


def change(spec: Spec, **fields: object) -> Spec:
    return Spec(**{**dict(zip(spec.FIELDS, spec, strict=True)), **fields})


PLAIN = change(
    make(Spec), preload=("numpy", "app:load"), policies=("raise", "warn"), own_environment=0, environment=("A=1", "B=2")
)


@given(build(Spec))
def test_equal_specs_are_one_template(spec):
    again = wire.decode(wire.encode(spec, 1 << 30))
    assert again == spec
    assert identify(again) == identify(spec)
    assert hash(identify(again)) == hash(identify(spec)), "it is the key under which the tracker looks"


@pytest.mark.parametrize("field", [field for field in Spec.FIELDS if field not in ("environment", "wanted")])
def test_a_spec_that_differs_in_any_field_is_another_template(field):
    value = getattr(PLAIN, field)
    other = value + 1 if isinstance(value, int) else ("other",) if isinstance(value, tuple) else "other"
    assert identify(change(PLAIN, **{field: other})) != identify(PLAIN)


def test_the_environment_counts_only_where_the_user_gave_it():
    """A nested client has its own, and each start carries its complete environment anyway (row 37)."""
    assert identify(change(PLAIN, environment=())) == identify(PLAIN)
    given_one = change(PLAIN, own_environment=1)
    assert identify(change(given_one, environment=())) != identify(given_one)


def test_what_its_children_will_want_makes_no_other_template():
    """A program that has loaded more by its second context is to find the template of the first."""
    assert identify(change(PLAIN, wanted=())) == identify(PLAIN)


def test_the_order_of_the_preload_list_counts():
    assert identify(change(PLAIN, preload=PLAIN.preload[::-1])) != identify(PLAIN)
