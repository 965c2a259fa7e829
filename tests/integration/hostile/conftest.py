"""The processes that run the modules against hostile agents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.workers import Workers

# Most of them are waiting most of the time.
_WORKERS = 6


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(_WORKERS) as running:
        yield running
