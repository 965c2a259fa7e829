"""Selection of the test parameters for ``make test`` (``make test-all`` uses all), and of those in use."""

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
    """Return the combined values of these parameters in the module's tests, each once and in order."""
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(tuple(each[name] for name in names) for each in parameters if each.keys() >= set(names)))
