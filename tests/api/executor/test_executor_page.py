"""The code on docs/executor.md does what the page says."""

from __future__ import annotations

import re

import pytest

from tests.architecture.sources import ROOT
from tests.support import run_program

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "executor.md").read_text(), re.S)


def test_the_page_has_code():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_on_the_page_runs(code, tmp_path):
    run_program(code, tmp_path)
