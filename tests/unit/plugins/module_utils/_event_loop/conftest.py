"""Descriptors that tasks wait for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.many_tasks import Pair


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _pair in range(4)]
    yield made
    for pair in made:
        pair.close()
