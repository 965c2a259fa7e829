"""A program for tests: the service before a simulated hypervisor, which obeys whoever writes to its standard input.

Its arguments are a JSON object of profiles by name, the directory of the assembled package, and the service's own. Each
line of input is ``{"do": ..., "with": [...]}``, a method of the hypervisor, and is answered with what it returned.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from tests.fakes.fleet import Profile
from tests.fakes.hypervisors import SimulatedHypervisor


def _obey(hypervisor: SimulatedHypervisor) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        done = getattr(hypervisor, request["do"])(*request["with"])
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def main(profiles: str, parent: str, arguments: Sequence[str]) -> int:
    hypervisor: Any = SimulatedHypervisor({name: Profile(**each) for name, each in json.loads(profiles).items()})
    sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = hypervisor
    threading.Thread(target=_obey, args=(hypervisor,), name="obey", daemon=True).start()
    sys.path.insert(0, parent)
    status: int = importlib.import_module("resync_on_resume.__main__").main(arguments, os.environ)
    return status


if __name__ == "__main__":
    # As the service's own program does.
    os._exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
