"""The threads tests of test._test_multiprocessing, for interpreters that come without the package around it."""

from __future__ import annotations

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "forkserver", only_type="threads")
