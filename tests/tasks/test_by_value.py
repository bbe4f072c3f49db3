"""By value goes what the other process can't find, with its file and lines; what pickle refuses stays refused."""

from __future__ import annotations

import io
import linecache
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import make_environment, run_program
from warmfork._tasks import by_value

INSIDE = "import sys, pickle; found = pickle.loads(sys.stdin.buffer.read()); print(found({argument}))"


def dump(value: object, main_is_known: bool = False) -> bytes:
    file = io.BytesIO()
    by_value.make_pickler(main_is_known)(file, 5).dump(value)
    return file.getvalue()


def call_elsewhere(data: bytes, argument: str = "") -> str:
    """Unpickle a function in another interpreter, call it, and give what it returned, as text."""
    done = subprocess.run(
        [sys.executable, "-c", INSIDE.replace("{argument}", argument)],
        input=data,
        capture_output=True,
        check=True,
        env=make_environment(),
    )
    return done.stdout.decode().strip()


def make_counter(start: int) -> Callable[[int], int]:
    def count(number: int) -> int:
        return number + start + len(linecache.__name__)

    return count


def test_lambdas_and_nested_functions_go_by_value_with_what_they_hold():
    assert call_elsewhere(dump(make_counter(5)), "1") == "15"
    assert call_elsewhere(dump(lambda: 7)) == "7"
    assert pickle.loads(dump(textwrap.dedent)) is textwrap.dedent, "what has a name goes by it"


def test_nested_classes_go_by_value():
    class Local:
        def __init__(self, number: int = 3) -> None:
            self.number = number

        @property
        def double(self) -> int:
            return self.number * 2

    assert call_elsewhere(dump(lambda: Local(4).double)) == "8"


def test_a_function_keeps_its_file_its_lines_and_its_inner_functions():
    def fail() -> None:
        [1 / zero for zero in (0,)]  # the line that fails

    again = pickle.loads(dump(fail))
    assert again is not fail
    with pytest.raises(ZeroDivisionError) as caught:
        again()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {frame.filename for frame in frames} == {__file__}
    assert frames[-1].line == "[1 / zero for zero in (0,)]  # the line that fails"
    assert again.__code__.co_firstlineno == fail.__code__.co_firstlineno


def count_up():
    yield 1


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: sys.__stderr__, "TextIOWrapper"),
        (threading.Lock, "lock"),
        (count_up, "generator"),
        (lambda: memoryview(b"x"), "memoryview"),
        (lambda: {}.keys(), "dict_keys"),
        (lambda: sys._getframe(), "frame"),
    ],
)
def test_what_pickle_refuses_is_refused_in_its_words(make, word: str):
    value = make()
    with pytest.raises(TypeError) as ours:
        dump([value])
    with pytest.raises(TypeError) as theirs:
        pickle.dumps([value], 5)
    assert str(ours.value) == str(theirs.value) and word in str(ours.value)


def test_a_socket_is_refused():
    with socket.socket() as one, pytest.raises(TypeError, match="socket"):
        dump(one)


def test_a_module_that_the_user_has_registered_goes_by_value():
    import cloudpickle

    from tests import targets

    assert b"register" not in dump(targets.give)
    cloudpickle.register_pickle_by_value(targets)
    try:
        assert pickle.loads(dump(targets.give)) is not targets.give
    finally:
        cloudpickle.unregister_pickle_by_value(targets)
    assert pickle.loads(dump(targets.give)) is targets.give


SCRIPT = """
import warmfork, enum, typing, traceback, sys

T = typing.TypeVar("T")

class Colour(enum.Enum):
    RED = 1

class Base:
    kind: typing.Optional[Colour] = Colour.RED

class Thing(Base, typing.Generic[T]):
    @classmethod
    def make(cls, number: int) -> "Thing":
        found = cls()
        found.number = number
        return found

def decorate(function):
    def inner(*args):
        return function(*args)
    return inner

@decorate
def use(thing):
    return Thing.make(thing.number + 1)

def fail(thing):
    return thing.no_such_attribute  # the line that fails

if __name__ == "__main__":
    with warmfork.Template() as template:
        for _ in range(3):
            found = template.start(use, (Thing.make(4),)).result(20)
            assert type(found) is Thing and found.number == 5 and found.kind is Colour.RED
        try:
            template.start(fail, (Thing.make(4),)).result(20)
        except AttributeError:
            said = traceback.format_exc()
        assert f'File "{__file__}", line' in said and "# the line that fails" in said, said
        assert "dynamic-code" not in said and said.count("no_such_attribute'") == 2, said
    print("well")
"""


def test_a_script_s_classes_and_functions_come_back_as_themselves(tmp_path: Path):
    assert run_program(SCRIPT, tmp_path).stdout == "well\n"


@pytest.mark.parametrize("name", ["SCRIPT", "KINDS"])
def test_the_oldest_cloudpickle_that_is_allowed_does_as_well(tmp_path: Path, name: str):
    """Its version is the one in pyproject.toml, put before the newest by PYTHONPATH."""
    script = globals()[name].replace("MAIN", "main=False")
    folder = tmp_path / "oldest"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "cloudpickle==3.1.2"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no index with cloudpickle 3.1.2 can be reached")
    done = run_program(
        f"import cloudpickle\nassert cloudpickle.__version__ == '3.1.2'\n{script}",
        tmp_path,
        env={"PYTHONPATH": str(folder)},
    )
    assert done.stdout == "well\n"


KINDS = """
import abc, dataclasses, enum, functools, typing, warmfork

@dataclasses.dataclass
class Data:
    number: int
    names: list = dataclasses.field(default_factory=list, metadata={"unit": "m"})

@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    number: int

class Pair(typing.NamedTuple):
    one: int
    other: str = "x"

class Slots:
    __slots__ = ("number",)

    def __eq__(self, other):
        return type(other) is Slots and self.number == other.number

class Shape(abc.ABC):
    @property
    @abc.abstractmethod
    def area(self): ...

@dataclasses.dataclass
class Square(Shape):
    side: int

    @functools.cached_property
    def area(self):
        return self.side ** 2

@functools.lru_cache(maxsize=7)
def double(number):
    return 2 * number

def give_back(value):
    return value

def use(square):
    return dataclasses.replace(square, side=3).area, [one.name for one in dataclasses.fields(square)], double(4)

if __name__ == "__main__":
    slots = Slots()
    slots.number = 3
    with warmfork.Template(MAIN) as template:
        for value in (Data(1), Frozen(1), Pair(1), slots, Square(2)):
            found = template.start(give_back, (value,)).result(20)
            assert type(found) is type(value) and found == value, found
        assert template.start(use, (Square(2),)).result(20) == (9, ["side"], 8)
        assert template.start(double, (2,)).result(20) == 4
        assert template.start(give_back, (double,)).result(20).cache_parameters()["maxsize"] == 7
    print("well")
"""


@pytest.mark.parametrize("main", ["main=False", "main=True"])
def test_each_kind_of_class_that_scripts_define_goes_there_and_back(tmp_path: Path, main: str):
    assert run_program(KINDS.replace("MAIN", main), tmp_path).stdout == "well\n"
