"""Figures of merit. The collection's own code is imported here, so it has to be importable."""

from __future__ import annotations

from tests.support.collection import make_importable

make_importable()
