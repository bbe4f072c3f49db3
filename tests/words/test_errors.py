from __future__ import annotations

import pickle

import pytest

import warmfork
from warmfork._words import errors
from warmfork._words.outcome import Exited, Signaled

CASES = [
    (errors.PreloadError("app.models", "ImportError: no", "Traceback ..."), ("module", "cause", "traceback")),
    (errors.AuditError(('"torch" left 3 thread(s) running', "open GPU devices")), ("findings",)),
    (errors.StartError("fork", "Resource temporarily unavailable"), ("step", "cause")),
    (errors.TemplateDied(5, 60, Signaled(9)), ("deaths", "seconds", "outcome")),
    (errors.ChildError("sum-1", Signaled(9), "Traceback ..."), ("name", "outcome", "detail")),
    (errors.Refused("user ids: (5, 5, 5), not (0, 0, 0)"), ("difference",)),
    (errors.UnsupportedPlatform("warmfork runs on Linux, and this is win32"), ("what",)),
]
each_error = pytest.mark.parametrize(("error", "fields"), CASES, ids=lambda case: type(case).__name__)


@each_error
def test_an_error_survives_pickling_with_its_fields(error, fields):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert [getattr(again, field) for field in fields] == [getattr(error, field) for field in fields]
        assert str(again) == str(error)


@each_error
def test_an_error_says_all_that_it_knows(error, fields):
    text = str(error)
    for field in fields:
        value = getattr(error, field)
        for part in value if isinstance(value, tuple) else (value,):
            assert str(part) in text


@pytest.mark.parametrize("kind", [errors.PreloadError, errors.AuditError, errors.UnsupportedPlatform])
def test_an_error_with_one_remedy_names_it_in_its_last_line(kind):
    error = next(error for error, _ in CASES if type(error) is kind)
    assert str(error).splitlines()[-1].startswith("hint: ")


def test_every_error_is_a_warmfork_error_and_has_a_case_here():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    kinds -= {errors.RemoteTraceback, errors.SystemStartError}  # a cause, and what StartError makes by itself
    assert all(issubclass(kind, errors.WarmforkError) for kind in kinds)
    assert kinds - {errors.WarmforkError} == {type(error) for error, _ in CASES}
    assert all(getattr(warmfork, kind.__name__) is kind for kind in kinds), "users catch it by its public name"


def test_without_a_traceback_there_is_no_empty_one():
    assert "In the template" not in str(errors.PreloadError("m", "c"))
    assert "In the child" not in str(errors.ChildError("m", Signaled(9)))


def test_a_start_that_the_kernel_refused_is_an_oserror_with_its_number():
    error = errors.StartError("fork", "Resource temporarily unavailable", 11)
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert isinstance(one, OSError) and (one.step, one.errno) == ("fork", 11)
    plain = errors.StartError("template", "it died")
    assert not isinstance(plain, OSError) and plain.errno is None


@pytest.mark.parametrize("name", ["StartError", "ChildError", "Exited", "Signaled", "Usage", "Child", "Template"])
def test_what_users_see_has_its_public_name(name):
    assert f"{getattr(warmfork, name).__module__}.{getattr(warmfork, name).__qualname__}" == f"warmfork.{name}"


def test_an_exit_without_a_result_is_told_in_words():
    said = str(errors.ChildError("sum-1", Exited(0)))
    assert said == "sum-1 ended without a result: exit code 0, by sys.exit() or os._exit()"
    assert str(errors.ChildError("sum-1", Exited(1), "sys.exit('why')")).endswith(": sys.exit('why')")
