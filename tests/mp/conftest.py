"""What tests of contexts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import warmfork
from warmfork.mp.client.context import Context


@pytest.fixture
def context() -> Iterator[Context]:
    made = warmfork.get_context(preload=["tests.targets"])
    yield made
    made.stop_template()
