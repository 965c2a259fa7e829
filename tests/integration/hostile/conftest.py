"""The processes that run the modules against hostile agents, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.checks import Records
from tests.hostile.workers import Workers

# Most of them wait most of the time.
_WORKERS = 6


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(_WORKERS) as running:
        yield running


@pytest.fixture(scope="session")
def records() -> Iterator[Records]:
    kept = Records()
    yield kept
    kept.write()
