"""Which of a test's parameters ``make test`` tries (``make test-all`` tries all), and what those need done."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def quick(values: Iterable[Any], tried: Collection[Any]) -> list[Any]:
    """Return all values, as parameters: those that are not in ``tried`` are marked as thorough."""
    known = list(values)
    assert all(value in known for value in tried), f"{tried} are not all among the parameters {known}"
    return [value if value in tried else pytest.param(value, marks=pytest.mark.thorough) for value in known]


def chosen(request: pytest.FixtureRequest, *names: str) -> list[tuple[Any, ...]]:
    """The values that parameters of these names have together in the module's tests, each once and in their order."""
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(tuple(each[name] for name in names) for each in parameters if each.keys() >= set(names)))
