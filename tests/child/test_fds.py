"""Which fds a child has: what was passed to it, and nothing else (rows 39, 40, 41, M10, M11)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

import warmfork
from tests import ends, targets
from tests.running import ROOT, list_spares
from tests.signs import make_sign
from tests.support import run_program, wait_until

ENV = {"PYTHONPATH": ROOT}


@pytest.mark.parametrize("count", [1, 251, 252, 253, 254, 260, 600])
def test_any_number_of_fds_arrives_in_order(count: int):
    """Row 39: 254 are one more than the kernel takes in one message, and a raw OSError 22 in the stdlib."""
    context = warmfork.get_context()
    pairs = [context.Pipe(duplex=False) for _ in range(count)]
    process = context.Process(target=targets.write_numbers, args=([writer for _, writer in pairs],))
    process.start()
    for _, writer in pairs:
        writer.close()
    assert [reader.recv() for reader, _ in pairs] == list(range(count))
    for reader, _ in pairs:
        reader.close()
    process.join(20)
    assert process.exitcode == 0
    process.close()


@pytest.mark.parametrize("spares", [0, 2])
def test_a_child_has_none_of_its_siblings_fds_nor_of_its_template_s_nor_of_its_client_s(tmp_path: Path, spares: int):
    """Rows 40 and M11: what a child inherits by accident holds pipes open, and shows it other processes' secrets."""
    with make_sign(tmp_path) as sign, warmfork.Template(preload=["tests.targets"], spares=spares) as template:
        siblings = [template.start(targets.sign_and_wait, (sign.path,)) for _ in range(4)]
        sign.wait(4)
        if spares:
            wait_until(lambda: len(list_spares(template.pid)) == spares)
        with open(tmp_path / "mine", "w") as mine:
            os.set_inheritable(mine.fileno(), True)
            seen = template.start(targets.list_fds).result(20)
        kinds = sorted(target.partition(":")[0] for number, target in seen.items() if number > 2)
        # Its stack's place, a pidfd on its client, the door, its feed; and nothing of anybody else's.
        assert kinds == ["/memfd", "anon_inode", "socket", "socket"], seen
        for sibling in siblings:
            sibling.kill()
            sibling.wait(20)


NOTES = """
import os
seen = []
def look():
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            seen.append(os.readlink(f"/proc/self/fd/{number}").partition(":")[0])
        except OSError:
            continue
os.register_at_fork(after_in_child=look)
"""


def test_what_a_library_has_called_in_a_child_finds_everything_closed_that_is_not_the_child_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """M11: it may hang, and would keep every socket of the template's open. Ours is called first, being registered first."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "notes_fds.py").write_text(NOTES)
    with warmfork.Template(preload=["notes_fds"]) as template:
        seen = template.start(targets.get_attribute, ("notes_fds", "seen")).result(20)
    assert seen.count("socket") == 1, f"its feed, and: {seen}"
    assert "anon_inode" not in seen, "a pidfd, or what the template waits with"


def test_the_pipe_of_a_sibling_ends_when_that_sibling_does(tmp_path: Path):
    """Row 40: a writing end in each later child would keep its reader waiting."""
    context = warmfork.get_context()
    reader, writer = context.Pipe(duplex=False)
    with make_sign(tmp_path) as sign:
        first = context.Process(target=targets.write_numbers, args=([writer],))
        first.start()
        writer.close()
        later = context.Process(target=targets.sign_and_wait, args=(sign.path,))
        later.start()
        sign.wait()
        assert reader.recv() == 0
        with pytest.raises(EOFError):
            reader.recv()
        reader.close()
        later.kill()
        for process in (first, later):
            process.join(20)
            process.close()


def test_fds_that_the_preload_opened_are_the_children_s_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data.txt").write_text("data of the preload")
    (tmp_path / "opens.py").write_text(f"file = open({str(tmp_path / 'data.txt')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    with warmfork.Template(preload=["opens"]) as template:
        seen = template.start(targets.list_fds).result(20)
        assert str(tmp_path / "data.txt") in seen.values()


def test_one_fd_is_held_for_each_living_child_and_none_for_the_dead(tmp_path: Path):
    """Row 41: two in the parent and one in the server, so that 500 children are too many for 1024 fds."""
    context = warmfork.get_context(preload=["tests.targets"], spares=0)
    with make_sign(tmp_path) as sign:
        processes = [context.Process(target=targets.sign_and_wait, args=(sign.path,)) for _ in range(20)]
        processes[0].start()
        sign.wait()
        multiprocessing.active_children()
        ours = len(os.listdir("/proc/self/fd"))
        template = os.listdir(f"/proc/{context.template_pid}/fd")
        for process in processes[1:]:
            process.start()
        sign.wait(19)
        settle = context.Process(target=int)  # whoever starts next lets go of the feeds whose children are born
        settle.start()
        settle.join()
        settle.close()
        assert len(os.listdir("/proc/self/fd")) <= ours + 19
        assert len(os.listdir(f"/proc/{context.template_pid}/fd")) <= len(template) + 19
        for process in processes:
            process.kill()
            process.join(20)
            process.close()
        assert len(os.listdir("/proc/self/fd")) <= ours


def test_more_children_than_a_soft_limit_of_files_would_allow_the_template(tmp_path: Path):
    """M10: the tracker raises its soft limit to the hard one, templates have that from it, and children get theirs back."""
    code = """
        import os, resource, warmfork
        from tests import ends, targets
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with warmfork.Template(spares=0) as template:
            children = [template.start(targets.wait) for _ in range(30)]
            assert template.start(resource.getrlimit, (resource.RLIMIT_NOFILE,)).result(20)[0] == 120
            for child in children:
                child.kill()
                child.wait(20)
        print("done")
    """
    assert run_program(code, tmp_path, env=ENV).stdout == "done\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_a_program_with_closed_standard_streams_starts_processes(tmp_path: Path, closed: tuple[int, ...]):
    """A daemon may run without any; a child then has the null device in their place, and never a socket of ours."""
    code = f"""
        import os, sys
        from tests import ends, targets

        if __name__ == "__main__":
            report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
            os.dup2(report, 100)
            os.close(report)
            for number in {closed}:
                os.close(number)
            import warmfork
            with warmfork.Template() as template:
                for _ in range(4):
                    seen = template.start(targets.list_fds).result(20)
                    assert template.start(targets.write_text, ("text", 1)).wait(20) == warmfork.Exited(0)
            context = warmfork.get_context()
            process = context.Process(target=targets.write_text, args=("text", 2))
            process.start()
            process.join()
            assert process.exitcode == 0
            os.write(100, repr([seen[number] for number in (0, *{closed})]).encode())
            os._exit(0)
    """
    report = tmp_path / "report"
    done = run_program(code, tmp_path, str(report), env=ENV, expect=None)
    assert done.code == 0, done.stderr
    assert eval(report.read_text()) == ["/dev/null"] * (1 + len(closed))


def test_a_child_can_be_given_a_socket_that_the_program_listens_on(tmp_path: Path):
    """Row 76."""
    context = warmfork.get_context()
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = context.Process(target=targets.accept_one, args=(server,))
        process.start()
        with socket.create_connection(server.getsockname(), timeout=20) as client:
            assert client.recv(100) == b"from the child"
    process.join(20)
    assert process.exitcode == 0
    process.close()


def test_a_child_that_is_stopped_is_still_killed():
    """M22: a stopped process takes SIGTERM only after SIGCONT."""
    with warmfork.Template() as template:
        child = template.start(targets.wait)
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    assert child.outcome == warmfork.Signaled(signal.SIGTERM)


@pytest.mark.parametrize("spares", [0, 2])
def test_a_child_that_has_closed_all_its_files_keeps_those_that_it_opens_then(tmp_path: Path, spares: int):
    """Whatever it does: a door, a feed and an fd on /proc had such numbers, and a message of ours would go astray."""
    with warmfork.Template(preload=["tests.ends"], spares=spares) as template:
        for _ in range(3):
            child = template.start(ends.close_all_and_open, (str(tmp_path),))
            with pytest.raises(warmfork.ChildError):
                child.result(20)  # there is no way left by which it could come
            assert child.wait(20) == warmfork.Exited(0)
            assert (tmp_path / "said").read_text() == "all 60 files are mine, and nothing came to 20 sockets"
