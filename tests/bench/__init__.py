"""Figures of merit. Each part measures, and returns its figures under the names that build/bench.json has for them.

The collection's own code is imported here, so it has to be importable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.collection import make_importable

make_importable()

Figures = dict[str, Any]
Say = Callable[[str], None]
