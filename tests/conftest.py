"""Make the collection importable from any clone, and set hypothesis's number of examples."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.support.collection import make_importable

make_importable()

# The quick profile tries the same examples each time, so a new failure is caused by the change.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
