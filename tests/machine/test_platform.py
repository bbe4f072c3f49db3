from __future__ import annotations

import errno
import logging
import os
import sys

import pytest

import warmfork
from warmfork import Template, get_context
from warmfork._machine import fds, memfds, platform


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """The check is made once in a process: forget that it was."""
    monkeypatch.setattr(platform, "_checked", False)


def refuse(error: OSError) -> object:
    def call(*arguments: object) -> int:
        raise error

    return call


def test_this_system_has_what_it_takes():
    platform.check()
    assert platform._checked


@pytest.mark.parametrize("name", ["win32", "darwin"])
def test_another_system_is_named_with_what_to_use_there(monkeypatch, name):
    monkeypatch.setattr(sys, "platform", name)
    with pytest.raises(warmfork.UnsupportedPlatform, match=rf"this is {name}\nhint: .*\"spawn\""):
        platform.check()
    with pytest.raises(warmfork.UnsupportedPlatform):
        get_context()
    with pytest.raises(warmfork.UnsupportedPlatform):
        Template()


def test_a_free_threaded_interpreter_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(warmfork.UnsupportedPlatform, match="free-threaded"):
        platform.check()


REFUSALS = [PermissionError(1, "filtered"), OSError(38, "not implemented")]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_kernel_or_a_filter_that_refuses_pidfds_is_named(monkeypatch, error):
    """M24: EPERM from an old container runtime's filter means the same as ENOSYS."""
    monkeypatch.setattr(os, "pidfd_open", refuse(error))
    with pytest.raises(warmfork.UnsupportedPlatform, match="no pidfds"):
        platform.check()
    assert not platform._checked, "what was refused is asked again"


def test_a_python_without_pidfds_is_refused_too(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(warmfork.UnsupportedPlatform, match="pidfd_open"):
        platform.check()


@pytest.mark.parametrize("error", [*REFUSALS, None], ids=["EPERM", "ENOSYS", "a Python without"])
def test_without_memfds_files_do_and_that_is_logged(monkeypatch, caplog, error):
    monkeypatch.setattr(memfds, "no_memfds", False)
    if error is None:
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", refuse(error))
    with caplog.at_level(logging.INFO, logger="warmfork"):
        platform.check()
        platform.check()
    assert ["no memfds" in record.getMessage() for record in caplog.records] == [True]
    fd = fds.make_memory("warmfork-test", b"content", size=10_000)
    try:
        assert os.fstat(fd).st_size == 10_000 and os.fstat(fd).st_blocks * 512 >= 10_000, "none of it is a hole"
        assert os.fstat(fd).st_nlink == 0 and fds.read_all(fd, 7) == b"content"
        assert "/warmfork-test-" in os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_without_memfds_and_without_a_folder_it_says_so(monkeypatch):
    monkeypatch.setattr(memfds, "no_memfds", False)
    monkeypatch.setattr(os, "memfd_create", refuse(REFUSALS[0]))
    monkeypatch.setattr(os, "open", refuse(OSError(30, "Read-only file system")))
    with pytest.raises(warmfork.UnsupportedPlatform, match="no memfds, and no folder takes a file"):
        platform.check()


@pytest.mark.parametrize("call", ["pidfd_open", "memfd_create"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_program_that_is_out_of_files_is_not_told_that_its_kernel_is_too_old(monkeypatch, call, number):
    monkeypatch.setattr(os, call, refuse(OSError(number, os.strerror(number))))
    with pytest.raises(OSError) as caught:
        platform.check()
    assert caught.value.errno == number and not platform._checked
