"""The error of a module's result, wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def task_error(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the error of the task, or that of its only guest; None if there is none."""
    error: dict[str, Any] | None = result.get("error") or result.get("guest", {}).get("error")
    return error
