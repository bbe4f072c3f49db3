"""A child imports nothing that its template could have loaded: see tests/child_imports.py."""

from __future__ import annotations

import pytest

from tests.child_import_cases import CASES, WHENS, run_case
from tests.programs import list_pythons, name_python


@pytest.mark.parametrize("python", list_pythons(), ids=name_python)
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("name", CASES)
def test_a_child_imports_nothing(name, when, python):
    found = run_case(name, when, python)
    assert found, "no child was looked at"
    assert not any(found), f"modules that children import: {found}"
