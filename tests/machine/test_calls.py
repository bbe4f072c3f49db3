from __future__ import annotations

import os

import pytest

from tests.support import run_program
from warmfork._machine import calls


def test_a_libc_function_is_called_with_plain_integers():
    assert calls.call("getpid") == os.getpid()
    assert calls.call("getpgid", os.getpid()) == os.getpgrp()
    assert calls.call("getpid") == os.getpid(), "its address is kept"


def test_a_call_that_fails_names_itself():
    with pytest.raises(OSError, match=r"prctl\(-1, 0, 0, 0, 0\) failed"):
        calls.call("prctl", -1, 0, 0, 0, 0)


def test_a_function_that_libc_does_not_have_is_an_error():
    with pytest.raises(OSError):
        calls.call("warmfork_is_no_libc_function")


def test_the_ctypes_package_is_not_loaded_for_it(tmp_path):
    code = "import sys; from warmfork._machine import calls; calls.call('getpid'); print('ctypes' in sys.modules)"
    assert run_program(code, tmp_path).stdout == "False\n"
