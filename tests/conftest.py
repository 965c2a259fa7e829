"""The collection, importable for every test wherever the clone lies, and how hard hypothesis tries."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.support.collection import make_importable

make_importable()

# The quick one tries the same examples each time: what fails in a change is the change's fault.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
