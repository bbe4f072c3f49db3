"""The completion scripts, in the shells that they are for."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from warmfork.cli import COMMANDS, load

WARMFORK = f"{sys.executable} -m warmfork"


def write_script(shell: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "warmfork", "completion", shell], capture_output=True, text=True, check=True
    ).stdout


def complete_in_bash(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    listed = " ".join(f"'{word}'" for word in words)
    code = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _warmfork; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{write_script('bash')}\n{code}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["warmfork", "r"], ["run"]),
        (["warmfork", "run", "--o"], ["--orphans", "--on-preload-error"]),
        (["warmfork", "run", "--orphans", ""], ["kill", "keep"]),
        (["warmfork", "run", "--audit", "w"], ["warn"]),
        (["warmfork", "run", "app"], []),
        (["warmfork", "ps", "--j"], ["--json"]),
        (["warmfork", "completion", ""], ["--help", "-h", "bash", "fish", "zsh"]),
    ],
)
def test_bash_offers_commands_options_and_values(words, offered):
    assert sorted(complete_in_bash(*words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_reads_its_script_and_each_option_is_in_it(shell, tmp_path):
    script = write_script(shell)
    for name in COMMANDS:
        for option in load(name)[0].options:
            assert all(each.lstrip("-") in script for each in option.names)
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here to read it")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
def test_fish_offers_options_and_values():
    ask = "complete -C 'warmfork run --orphans '; complete -C 'warmfork run --key'; complete -C 'warmfork to'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"{write_script('fish')}\n{ask}\ncomplete -C 'warmfork run --keep'"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert {"kill", "keep", "top", "--keep-default"} <= {*offered}


@pytest.mark.parametrize("words", [[], ["csh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words):
    done = subprocess.run(
        [sys.executable, "-m", "warmfork", "completion", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "") and "hint: " in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples_and_exit_codes(name):
    done = subprocess.run(
        [sys.executable, "-m", "warmfork", name, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"usage: warmfork {name}")
    assert "\nExamples:\n" in done.stdout and "\nExit codes:\n" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
