"""Confinement holds: who has given up rights gets no child that has them still (row 6, M6, M15)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program

ENV = {"PYTHONPATH": ROOT}
CHANGES = """
        import ctypes, os

        def drop_effective_user(): os.seteuid(65534)
        def drop_groups(): os.setgroups([4242])
        def change_root(): os.chroot("/proc")
        def give_up_privileges(): assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
        def drop_capabilities():
            assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), bytes(24)) == 0
        def drop_an_effective_capability():
            libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert libc.capget(header, sets) == 0
            sets[0] &= ~1  # CAP_CHOWN
            assert libc.capset(header, sets) == 0
        def leave_namespace(): assert ctypes.CDLL(None).unshare(0x04000000) == 0  # CLONE_NEWUTS
        def filter_calls():
            allow = (ctypes.c_uint64 * 1)(0x7fff0000 << 32 | 0x06)  # one instruction: return SECCOMP_RET_ALLOW
            program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
            give_up_privileges()
            assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program), 0, 0) == 0
"""
NAMES = {
    "drop_effective_user": "user ids",
    "drop_groups": "groups",
    "drop_capabilities": "capabilities",
    "change_root": "root directory",
    "give_up_privileges": "no_new_privs",
    "filter_calls": "seccomp",
}
EFFECTIVE = {"drop_an_effective_capability": "capabilities"}
"""What is seen at each start, and is no difference to the tracker: whoever may have it can take it again."""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up most of this")


@root_only
@pytest.mark.parametrize("change", {**NAMES, **EFFECTIVE})
@pytest.mark.parametrize("spares", [0, 1])
def test_a_program_that_gave_up_rights_after_its_template_was_started_is_refused(
    tmp_path: Path, change: str, spares: int
):
    code = f"""
        import sys, warmfork
        {CHANGES}
        from tests import targets
        with warmfork.Template(preload=["tests.targets"], spares={spares}) as template:
            for _ in range(3):
                template.start(targets.give, (1,)).result(20)
            globals()[sys.argv[1]]()
            for _ in range(2):
                try:
                    template.start(targets.give, (1,))
                except warmfork.Refused as error:
                    print(error.difference)
    """
    done = run_program(code, tmp_path, change, env=ENV)
    assert len(done.stdout.splitlines()) == 2
    assert all({**NAMES, **EFFECTIVE}[change] + ": " in line for line in done.stdout.splitlines())


@root_only
@pytest.mark.parametrize("change", [*NAMES, "leave_namespace"])
def test_a_child_that_gave_up_rights_before_its_first_start_is_refused_by_the_kernel_s_word(
    tmp_path: Path, change: str
):
    """M6: a child at uid 65534, no_new_privs, got a helper at uid 0. It is the tracker that looks here."""
    code = f"""
        import multiprocessing, sys, warmfork
        {CHANGES}
        context = warmfork.get_context()

        def look(change, writer):
            # What a start loads, for whoever has no way to it afterwards.
            import cloudpickle, logging, subprocess, traceback
            import warmfork._client.client, warmfork.api.many, warmfork.mp.client.popen
            from warmfork._machine import rights
            from warmfork.mp.client import beginning

            def refuse(error):
                raise error

            beginning.check_spawn_helps = refuse  # or it would be started by spawn
            rights.take()
            if change:
                globals()[change]()
            try:
                inner = context.Process(target=print, args=("started",))
                inner.start()
                inner.join(20)
                writer.send("served")
            except warmfork.Refused as error:
                writer.send(error.difference)

        if __name__ == "__main__":
            for change in ("", sys.argv[1]):
                reader, writer = context.Pipe(False)
                outer = context.Process(target=look, args=(change, writer))
                outer.start()
                writer.close()
                print(reader.recv())
                outer.join(20)
    """
    done = run_program(code, tmp_path, change, env=ENV)
    assert done.stdout.splitlines()[:2] == ["started", "served"]
    assert done.stdout.splitlines()[2].startswith(NAMES.get(change, "uts namespace") + ": ") or (
        NAMES.get(change, "uts namespace") + ": " in done.stdout.splitlines()[2]
    ), done


@root_only
def test_a_tree_has_no_more_capabilities_than_the_program_that_began_it(tmp_path: Path):
    """Root has all of them again by exec, by which tracker and templates are started."""
    code = f"""
        import warmfork
        {CHANGES}
        from warmfork._machine import pids

        def keep_one():
            sets = (ctypes.c_uint32 * 6)(1 << 5, 1 << 5, 0, 0, 0, 0)  # CAP_KILL
            assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), sets) == 0

        if __name__ == "__main__":
            keep_one()
            for name in ("forked", "exec'd"):
                with warmfork.Template(name=name, spares=0) as template:
                    child = template.start(pids.read_permitted, ("self",)).result(20)
                    print(child, pids.read_permitted(template.pid), pids.read_permitted("self"))
    """
    done = run_program(code, tmp_path, env=ENV)
    assert done.stdout == "32 32 32\n" * 2


@root_only
@pytest.mark.parametrize("before", ["nothing", "a lock", "a start"])
def test_a_program_that_has_become_another_roots_a_tree_of_its_own(tmp_path: Path, before: str):
    """A Lock, setgid(), and then the first start: it was refused, with no way on. Another group, since nobody else than root
    may be able to run this interpreter."""
    code = """
        import os, sys, warmfork
        from tests import targets

        if __name__ == "__main__":
            context = warmfork.get_context()
            template = warmfork.Template()
            if sys.argv[1] == "a lock":
                lock = context.Lock()
            if sys.argv[1] == "a start":
                template.start(targets.give, (1,)).result(20)
            os.setresgid(65534, 65534, 65534)
            for _ in range(2):
                print(template.start(os.getresgid).result(20))
            another = context.Lock()
    """
    done = run_program(code, tmp_path, before, env=ENV)
    assert done.stdout == "(65534, 65534, 65534)\n" * 2


@root_only
def test_a_template_that_a_preload_has_confined_serves_the_program_and_its_children(tmp_path: Path):
    (tmp_path / "confined.py").write_text("import os\nos.setgroups([])\nos.setresgid(65534, 65534, 65534)\n")
    code = """
        import os, warmfork

        def nest(context):
            inner = context.Process(target=tell)
            inner.start()
            inner.join(20)

        def tell():
            print(os.getresgid(), flush=True)

        if __name__ == "__main__":
            context = warmfork.get_context(preload=["confined"])
            for target, arguments in ((tell, ()), (nest, (context,))):
                process = context.Process(target=target, args=arguments)
                process.start()
                process.join(20)
                assert process.exitcode == 0
    """
    os.chmod(tmp_path, 0o777)
    done = run_program(code, tmp_path, env=ENV)
    assert done.stdout.splitlines() == ["(65534, 65534, 65534)"] * 2
