"""scikit-learn's own tests of parallel code with warmfork's workers: every Parallel of theirs that names no backend.

python -m tests.integrations.with_sklearn [more of pytest's arguments]
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

WHOLE = (
    "sklearn.ensemble.tests.test_bagging",
    "sklearn.ensemble.tests.test_stacking",
    "sklearn.ensemble.tests.test_voting",
    "sklearn.feature_selection.tests.test_rfe",
    "sklearn.inspection.tests.test_permutation_importance",
    "sklearn.tests.test_multiclass",
    "sklearn.tests.test_multioutput",
)
"""All their tests are run, each Parallel of them with two workers."""

NOT_THESE = "not (metadata_routing or test_voting_verbose or test_ovr_always_present)"
"""They look at what was recorded, printed or warned of in their own process: they fail with loky's workers too."""

NAMED = (
    "sklearn.model_selection.tests.test_search",
    "sklearn.model_selection.tests.test_validation",
    "sklearn.utils.tests.test_parallel",
)
"""Of these the tests of parallel code."""

WORDS = "n_jobs or parallel or jobs"


class Backend:
    """A plugin of pytest: their Parallel has warmfork's workers, so many where it does not say. Counts what these did."""

    def __init__(self, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        self.batches = 0

    def pytest_sessionstart(self) -> None:
        from joblib import parallel_config

        import warmfork.integrations.joblib as ours

        ours.register(make_default=True)
        if self.n_jobs is not None:
            self.config = parallel_config(backend="warmfork", n_jobs=self.n_jobs)
        submit = ours.WarmforkBackend.submit

        def note(*arguments: object, **options: object) -> object:
            self.batches += 1
            return submit(*arguments, **options)

        ours.WarmforkBackend.submit = note
        self.undo = lambda: setattr(ours.WarmforkBackend, "submit", submit)

    def pytest_sessionfinish(self) -> None:
        self.undo()
        if self.n_jobs is not None:
            self.config.unregister()


def main() -> int:
    """Run them. Gives pytest's exit code."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        print("scikit-learn is not installed: make test-integrations does it", file=sys.stderr)
        return 1
    os.chdir(Path(found.origin).parent)  # our own settings and fixtures are not theirs
    failed = 0
    for modules, words, n_jobs in ((WHOLE, NOT_THESE, 2), (NAMED, WORDS, None)):
        backend = Backend(n_jobs)
        options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "-W", "ignore", "-k", words]
        failed |= int(pytest.main([*options, *sys.argv[1:], "--pyargs", *modules], plugins=[backend]))
        failed |= backend.batches == 0
        print(f"{backend.batches} batches were run by workers of warmfork")
    return failed


if __name__ == "__main__":
    sys.exit(main())
