"""A simulated fleet: a thousand guest agents and more in one process, each with its own socket, clock and fault.

From a shell: ``python -m tests.fakes.fleet DIRECTORY``. The collection's own code is imported here, so it
has to be importable.
"""

from __future__ import annotations

from tests.support.collection import make_importable

make_importable()

from tests.fakes.fleet.fleet import SimulatedFleet, SimulatedFleetError  # noqa: E402
from tests.fakes.fleet.profile import Profile, named, profiles  # noqa: E402

__all__ = ("Profile", "SimulatedFleet", "SimulatedFleetError", "named", "profiles")
