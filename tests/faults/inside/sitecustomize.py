"""On the path of every interpreter of a cell: installs the stops and the failing system calls of tests/faults."""

from __future__ import annotations

import os

if os.environ.get("FAULTS_FOLDER"):
    from tests.faults import injection, stops

    stops.install()
    injection.install()
