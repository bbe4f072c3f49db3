"""Where a template is born: environment, folder, interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import warmfork


def test_a_minimal_environment_has_no_secret(tmp_path, monkeypatch):
    """N59: what a template was born with is in its memory, which is its children's too, whatever `env` says at a start."""
    (tmp_path / "looks.py").write_text("import os\nseen = dict(os.environ)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("API_TOKEN", "secret")
    code = "import os, looks\n(dict(os.environ), looks.seen)"
    with warmfork.Template(["looks"], env="minimal", spares=0) as safe:
        for environment in safe.run(code, env="minimal").result:
            assert "API_TOKEN" not in environment
            assert environment["HOME"] == "/nonexistent"
        assert safe.run(code).result[0]["API_TOKEN"] == "secret"  # asked for nothing else: this program's


def test_a_template_preloads_with_its_own_environment_and_folder(tmp_path, monkeypatch):
    (tmp_path / "early.py").write_text("import os\nseen = os.environ['EARLY'], os.getcwd()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with warmfork.Template(["early"], env={"EARLY": "1", "PATH": os.defpath}, cwd=tmp_path, spares=0) as made:
        assert made.run("import early, os\n(early.seen, os.getcwd())").result == (("1", str(tmp_path)), os.getcwd())


def test_a_template_of_another_interpreter_has_its_own_path(tmp_path):
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", other], check=True)
    with pytest.raises(warmfork.StartError, match="No module named 'warmfork'"):
        warmfork.Template(python=other / "bin" / "python").run("1")
    package = os.path.dirname(os.path.dirname(warmfork.__file__))
    (next(other.glob("lib/python*/site-packages")) / "here.pth").write_text(package)
    with warmfork.Template(python=other / "bin" / "python", spares=0) as made:
        prefix, path = made.run("import sys\n(sys.prefix, sys.path)").result
    assert prefix == str(other)
    assert any(str(other) in entry for entry in path)
