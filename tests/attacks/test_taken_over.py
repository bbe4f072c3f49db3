"""A program that has given up rights, and that somebody has taken over then: it looks at nothing before it asks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

import warmfork
from tests.running import ROOT
from tests.support import run_program

CODE = """
    import os, sys, warmfork
    from tests.attacks.attackers import become_nobody
    from tests.attacks.test_deputy import filter_calls, give_up_privileges
    from tests.support import wait_until
    from tests.targets import give
    from warmfork._client.client import get_client
    from warmfork._client import starting
    from warmfork._machine import rights

    os.chdir("/")

    def look_at_nothing(client):
        for channel in (*client.channels.values(), *client.opening.values()):
            channel.check_rights = lambda: None
        rights.get_ids = lambda: client.ids

    def attempt(template):
        try:
            return template.start(os.getuid).result(20)
        except warmfork.WarmforkError as error:
            return f"{type(error).__name__}: {error}"
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.mark.parametrize(
    "change", [pytest.param("become_nobody", marks=root_only), "give_up_privileges", "filter_calls"]
)
def test_a_template_forks_nothing_for_who_has_given_up_rights(tmp_path: Path, change: str):
    code = f"""{CODE}
    with warmfork.Template(["tests.targets"], spares=0) as template:
        template.start(give, (1,)).result(20)
        look_at_nothing(get_client())
        {change}()
        print(attempt(template))
        """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.startswith("StartError: could not start a process: rights: Operation not permitted\nhint: ")


@root_only
def test_a_spare_takes_nothing_from_who_has_become_another_user(tmp_path: Path):
    code = f"""{CODE}
    with warmfork.Template(["tests.targets"], spares=1) as template:
        template.start(give, (1,)).result(20)
        (channel,) = get_client().channels.values()
        wait_until(lambda: channel.catch_up() or channel.children.spares)
        look_at_nothing(get_client())
        become_nobody()
        channel.request = None  # a spare, or nothing
        print(attempt(template))
        """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.startswith("ChildError: getuid-2 ended without a result: exit code 1"), done


@root_only
def test_who_has_become_another_user_while_a_template_preloads_gets_nothing_from_it(tmp_path: Path):
    """The tracker has looked when it was asked; the template hears of its client when it has preloaded."""
    (tmp_path / "slow.py").write_text(
        "import os\nos.read(os.open(f'{os.path.dirname(__file__)}/go', os.O_RDONLY), 1)\n"
    )
    os.mkfifo(tmp_path / "go")
    code = f"""{CODE}
    with warmfork.Template(["slow"], spares=0) as template:
        client = get_client()
        client.begin(template._get_spec())
        go = os.open("{tmp_path}/go", os.O_WRONLY)  # when the template has opened it, it preloads
        look_at_nothing(client)
        become_nobody()
        os.close(go)
        print(attempt(template))
        """
    done = run_program(code, tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert done.stdout.startswith("StartError: could not start a process: rights: Operation not permitted\nhint: ")


HIDDEN = """
    import ctypes, os, sys

    HIDE = "mount -t proc -o hidepid=2,gid=54321 proc /proc"
    if len(sys.argv) == 1:
        start = f"exec setpriv --bounding-set=-all --inh-caps=-all {sys.executable} {__file__} inside"
        os.execvp("unshare", ["unshare", "-m", "sh", "-c", f"{HIDE} && {start}"])
    import warmfork

    with warmfork.Template(spares=0) as template:
        print(template.start(pow, (2, 3)).result(20))
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, as setuid() does
        try:
            template.start(int)
        except warmfork.StartError as error:
            print(error)
"""


@root_only
@pytest.mark.skipif(not (shutil.which("setpriv") and shutil.which("unshare")), reason="needs util-linux")
def test_who_is_hidden_in_proc_gets_nothing_and_is_told_what_to_do(tmp_path: Path):
    """It had given up nothing, and was told that it had."""
    mount = ["unshare", "-m", "mount", "-t", "proc", "proc", "/proc"]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nothing can be mounted here")
    said = run_program(HIDDEN, tmp_path).stdout.splitlines()
    assert said[:2] == ["8", "could not start a process: look at rights: No such file or directory"]
    assert said[2].startswith("hint: /proc hides this process from its template (hidepid)")


def list_names() -> list[object]:
    """Give the names of this process's sockets."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(fd))) as one:
            names.append(one.getsockname())
    return names


@pytest.mark.parametrize("spares", [0, 1])
def test_a_child_s_sockets_have_no_names_though_it_has_answered(spares: int):
    """A socket that is told who sends, and sends itself, is given one by the kernel."""
    with warmfork.Template(["tests.attacks.test_taken_over"], spares=spares) as template:
        for _ in range(2):
            names = template.start(list_names).result(20)
            assert len(names) >= 2 and not any(names)
