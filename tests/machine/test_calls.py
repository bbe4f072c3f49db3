from __future__ import annotations

import os
from array import array

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


def test_a_call_that_fails_has_its_errno_where_it_is_asked_for():
    with pytest.raises(ProcessLookupError) as caught:
        calls.call_or_raise("getpgid", 2**22 + 1)
    assert caught.value.filename == "getpgid"


@pytest.mark.parametrize("make", [bytes, bytearray, lambda data: memoryview(data)[:], lambda data: array("B", data)])
def test_the_address_of_a_buffer_is_where_its_bytes_are(make):
    held = make(b"somewhere in memory")
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(calls.get_address(held))
        assert memory.read(19) == b"somewhere in memory"


def test_what_is_no_buffer_has_no_address():
    with pytest.raises(TypeError):
        calls.get_address(3)
    with pytest.raises(BufferError):
        calls.get_address(memoryview(b"abcdef")[::2])


def test_the_ctypes_package_is_not_loaded_for_it(tmp_path):
    code = """\
import sys
from warmfork._machine import calls
calls.call("getpid"), calls.get_address(b"")
print("ctypes" in sys.modules)
"""
    assert run_program(code, tmp_path).stdout == "False\n"
