"""scikit-learn's own tests of parallel code with warmfork's workers: every Parallel of theirs that names no backend.

python -m tests.integrations.with_sklearn [more of pytest's arguments]
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

MODULES = (
    "sklearn.ensemble.tests.test_bagging",
    "sklearn.ensemble.tests.test_stacking",
    "sklearn.ensemble.tests.test_voting",
    "sklearn.feature_selection.tests.test_rfe",
    "sklearn.inspection.tests.test_permutation_importance",
    "sklearn.model_selection.tests.test_search",
    "sklearn.model_selection.tests.test_validation",
    "sklearn.tests.test_multiclass",
    "sklearn.tests.test_multioutput",
    "sklearn.utils.tests.test_parallel",
)
WORDS = "n_jobs or parallel or jobs"
"""What is in the names of tests of parallel code."""


class Backend:
    """A plugin of pytest: their Parallel has warmfork's workers. Counts what these did."""

    def __init__(self) -> None:
        self.batches = 0

    def pytest_sessionstart(self) -> None:
        import warmfork.integrations.joblib as ours

        ours.register(make_default=True)
        submit = ours.WarmforkBackend.submit

        def note(*arguments: object, **options: object) -> object:
            self.batches += 1
            return submit(*arguments, **options)

        ours.WarmforkBackend.submit = note


def main() -> int:
    """Run them. Gives pytest's exit code."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        print("scikit-learn is not installed: make test-integrations does it", file=sys.stderr)
        return 1
    os.chdir(Path(found.origin).parent)  # our own settings and fixtures are not theirs
    backend = Backend()
    options = ["-q", "-x", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "-W", "ignore"]
    code = pytest.main([*options, "--pyargs", *MODULES, *(sys.argv[1:] or ["-k", WORDS])], plugins=[backend])
    print(f"{backend.batches} batches were run by workers of warmfork")
    return int(code) or int(backend.batches == 0)


if __name__ == "__main__":
    sys.exit(main())
