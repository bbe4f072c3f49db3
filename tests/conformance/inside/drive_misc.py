"""The tests of test._test_multiprocessing that have no type, for interpreters without the package around it."""

from __future__ import annotations

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "forkserver", exclude_types=True)
