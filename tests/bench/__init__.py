"""Benchmarks. Each part measures, and returns its figures under their names in build/bench.json.

The parts import the collection's own code, so it must be importable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.collection import make_importable

make_importable()

Figures = dict[str, Any]
Say = Callable[[str], None]
