"""A child that is out to harm, of another user or of the same, says anything at the door: nobody else notices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.attacks import attackers
from tests.running import get_tracker
from tests.support import run_program, wait_until
from tests.tracker.test_succession import read_names
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import fds, memfds, role, sockets
from warmfork._words import messages, wire

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
USERS = [pytest.param(True, id="of another user", marks=root_only), pytest.param(False, id="of the same user")]


class Scene:
    """A program with a template, a file and a folder of its own."""

    def __init__(self, template: warmfork.Template, folder: Path) -> None:
        self.template = template
        self.folder = folder
        self.spec = wire.encode(template._get_spec(), 1 << 30)
        self.file = folder / "file"

    def attack(self, kind: str, other_user: bool) -> int:
        """Have a child attack, and end. Gives how many messages it has sent."""
        child = self.template.start(attackers.attack, (kind, str(self.folder), "file", self.spec, other_user))
        sent = child.result(60)
        child.close()
        assert isinstance(sent, int)
        return sent


def count_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """At its end nobody has noticed: tracker and template are the same, have no fd more, and serve; nothing is gone."""
    (tmp_path / "file").write_text("the program's own")
    (tmp_path / "kept").write_text("tracked by the program")
    warmfork.track(tmp_path / "kept", "file")
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        with warmfork.Template(["tests.attacks.attackers"], spares=0) as template:
            template.start(targets.give, (1,)).result(20)
            pids = get_tracker(), template.pid
            listen()
            before = [count_fds(pid) for pid in pids]
            yield Scene(template, tmp_path)
            listen()
            assert (get_tracker(), template.pid, template.generation) == (*pids, 1)
            assert template.start(targets.give, (2,)).result(20) == 2
            with warmfork.Template(name="another") as another:
                assert another.start(targets.give, (3,)).result(20) == 3
            assert ("file", str(tmp_path / "kept")) in read_names()
            assert (tmp_path / "file").read_text() == "the program's own"
            assert (tmp_path / "kept").read_text() == "tracked by the program"
            for pid, count in zip(pids, before, strict=True):
                wait_until(lambda pid=pid, count=count: count_fds(pid) <= count + 3, 5, f"few fds in {pid}: {count}")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    for kind, name in read_names():  # what an attacker of the same user has had tracked
        if name.startswith(str(tmp_path)) or name == "/":
            get_client().tell(messages.Unregister(kind, name))


def listen() -> None:
    """Wait until the tracker has read all that was said so far."""
    launch.ask_fate(get_client().ensure_door(), 1, 1, 20)


@pytest.mark.parametrize("other_user", USERS)
@pytest.mark.parametrize("kind", [*attackers.KINDS, "nonsense", "nothing"])
def test_a_child_that_says_anything_at_the_door_harms_nobody(scene: Scene, kind: str, other_user: bool):
    before = set(read_names())
    assert scene.attack(kind, other_user) >= 3
    if other_user:
        listen()
        assert set(read_names()) == before, "nothing that it said was entered"


def test_a_child_that_hands_over_a_template_is_not_believed(tmp_path: Path):
    """The tracker would stay for as long as the process lives that is said to be one."""
    code = """
        import os, warmfork

        def hand_over():
            from warmfork._machine import role, sockets
            from warmfork._words import board, messages, wire

            made = os.memfd_create("board")
            os.truncate(made, board.SIZE)
            door = sockets.adopt_socket(os.dup(role.get_door()))
            sockets.send(door, wire.encode(messages.Inherit(1, 1, "x")), (os.pidfd_open(1), made))

        with warmfork.Template() as template:
            template.start(hand_over).result(20)
    """
    run_program(code, tmp_path, timeout=20)


@root_only
def test_a_child_of_another_user_is_told_why_it_gets_no_template(scene: Scene):
    said = scene.template.start(say_hello_as_nobody, (scene.spec,)).result(20)
    assert said == ("user and group ids: 65534 and 65534, not 0 and 0", 1)


def say_hello_as_nobody(spec: bytes) -> object:
    door = sockets.adopt_socket(os.dup(role.door))
    attackers.become_nobody()
    ours, theirs = sockets.make_pair()
    passed = [theirs.detach(), os.pidfd_open(os.getpid()), memfds.make_memory("warmfork-spec", spec), os.dup(role.door)]
    sockets.send(door, wire.encode(messages.Hello(os.getpid(), 0, 0)), passed)
    fds.close_all(passed)
    assert fds.wait_readable(ours.fileno(), 20)
    answer = wire.decode(sockets.receive(ours).data)
    assert isinstance(answer, messages.Refused)
    return answer.why, answer.rights


@pytest.mark.parametrize("other_user", USERS)
def test_while_a_child_storms_the_door_another_client_starts(scene: Scene, other_user: bool):
    storm = scene.template.start(attackers.attack, ("nonsense", str(scene.folder), "file", scene.spec, other_user))
    with warmfork.Template(name="meanwhile") as template:
        assert template.start(targets.give, (5,)).result(20) == 5
    storm.result(60)


def test_a_template_is_given_up_only_for_those_who_have_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It preloads for the program; a child of another template says that it has waited long enough."""
    import threading

    from tests.signs import give, make_sign

    (tmp_path / "slow_one.py").write_text(
        "import os\nopen(os.environ['READY'], 'w').write('x\\n')\nopen(os.environ['GO']).readline()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as other:
        other.wait_ready()
        monkeypatch.setenv("READY", ready.path)
        monkeypatch.setenv("GO", go.path)
        with warmfork.Template(["slow_one"]) as slow:
            answers: list[object] = []
            thread = threading.Thread(target=lambda: answers.append(slow.start(targets.give, (5,)).result(30)))
            thread.start()
            ready.wait()
            assert other.start(give_up, (wire.encode(slow._get_spec(), 1 << 30),)).result(20) is None
            give(go.path)
            thread.join(30)
            assert answers == [5] and slow.generation == 1


def give_up(spec: bytes) -> object:
    memory = memfds.make_memory("warmfork-spec", spec)
    return launch.ask(get_client().ensure_door(), messages.GiveUp(), 5, (memory,))
