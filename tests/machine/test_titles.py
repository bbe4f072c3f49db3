from __future__ import annotations

import pytest

from tests.support import run_program

SEE = """\
def see():
    with open("/proc/self/cmdline", "rb") as file:
        return file.read().rstrip(b"\\0")
"""


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("warmfork: tracker app", b"warmfork: tracker app"),
        ("warmfork: ä", "warmfork: ä".encode()),
        ("warmfork: \udcff.py", b"warmfork: ?.py"),
        ("warmfork: \ud800", b"warmfork: ?"),
        ("warmfork: a\0b", b"warmfork: a?b"),
        ("x" * 20_000, None),
    ],
    ids=["plain", "umlaut", "file_name_that_is_no_utf8", "lone_surrogate", "nul", "too_long"],
)
def test_ps_shows_the_title_whatever_the_name(tmp_path, title, shown):
    code = f"""\
{SEE}
from warmfork._machine import titles
titles.load()
titles.set_title({title!r})
print(see())
"""
    done = run_program(code, tmp_path)
    if shown is None:
        assert title.encode().startswith(eval(done.stdout)) or eval(done.stdout).startswith(b"xxx")
    else:
        assert eval(done.stdout) == shown


def test_the_extension_is_loaded_without_its_package_which_brings_logging(tmp_path):
    done = run_program(
        """\
        import sys
        from warmfork._machine import titles
        titles.load()
        titles.load()
        print(sorted(name for name in sys.modules if name.partition(".")[0] in ("setproctitle", "logging", "typing")))
        """,
        tmp_path,
    )
    assert "'setproctitle._setproctitle'" in done.stdout
    assert "logging" not in done.stdout and "typing" not in done.stdout


def test_a_program_that_imports_setproctitle_itself_shares_it(tmp_path):
    code = f"""\
{SEE}
import setproctitle
from warmfork._machine import titles
titles.load()
titles.set_title("ours")
print(setproctitle.getproctitle(), see())
setproctitle.setproctitle("theirs")
print(setproctitle.getproctitle(), see())
"""
    assert run_program(code, tmp_path).stdout == "ours b'ours'\ntheirs b'theirs'\n"


def test_a_program_may_import_setproctitle_after_us(tmp_path):
    code = f"""\
{SEE}
from warmfork._machine import titles
titles.load()
titles.set_title("ours")
import setproctitle
print(setproctitle.getproctitle())
setproctitle.setproctitle("theirs")
titles.set_title("ours again")
print(see())
"""
    assert run_program(code, tmp_path).stdout == "ours\nb'ours again'\n"


def test_where_setproctitle_is_not_installed_titles_stay_as_they_are(tmp_path):
    code = f"""\
{SEE}
import sys
from warmfork._machine import titles
before = see()
sys.path = ["/nowhere", *(entry for entry in sys.path if "site-packages" not in entry)]
titles.load()
titles.set_title("ours")
print(see() == before, [name for name in sys.modules if "setproctitle" in name])
"""
    assert run_program(code, tmp_path).stdout == "True []\n"


def test_before_it_is_loaded_nothing_is_set(tmp_path):
    code = f"""\
{SEE}
from warmfork._machine import titles
before = see()
titles.set_title("ours")
print(see() == before)
"""
    assert run_program(code, tmp_path).stdout == "True\n"
