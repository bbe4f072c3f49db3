from __future__ import annotations

import errno
import os
import sys

import pytest

import warmfork
from warmfork import Template, get_context
from warmfork._machine import platform


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


@pytest.mark.parametrize("error", [PermissionError(1, "filtered"), OSError(38, "not implemented")])
@pytest.mark.parametrize(("name", "what"), [("pidfd_open", "no pidfds"), ("memfd_create", "no memfds")])
def test_a_kernel_or_a_filter_that_refuses_a_call_is_named(monkeypatch, name, what, error):
    """M24: EPERM from an old container runtime's filter means the same as ENOSYS."""
    monkeypatch.setattr(os, name, refuse(error))
    with pytest.raises(warmfork.UnsupportedPlatform, match=what):
        platform.check()
    assert not platform._checked, "what was refused is asked again"


@pytest.mark.parametrize("name", ["pidfd_open", "memfd_create"])
def test_a_python_without_the_call_is_refused_too(monkeypatch, name):
    monkeypatch.delattr(os, name)
    with pytest.raises(warmfork.UnsupportedPlatform, match=name):
        platform.check()


@pytest.mark.parametrize("call", ["pidfd_open", "memfd_create"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_program_that_is_out_of_files_is_not_told_that_its_kernel_is_too_old(monkeypatch, call, number):
    monkeypatch.setattr(os, call, refuse(OSError(number, os.strerror(number))))
    with pytest.raises(OSError) as caught:
        platform.check()
    assert caught.value.errno == number and not platform._checked
