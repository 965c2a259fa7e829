"""A program for tests: the service with a simulated hypervisor, controlled by standard input.

Its arguments are a JSON object of profiles by name, the directory of the assembled package, and the service's own
arguments. Each line of input, ``{"do": ..., "with": [...]}``, is a call of a method of the hypervisor. Each line of
output is the result of a call.
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


def _execute(hypervisor: SimulatedHypervisor) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        done = getattr(hypervisor, request["do"])(*request["with"])
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def main(profiles: str, parent: str, arguments: Sequence[str]) -> int:
    hypervisor: Any = SimulatedHypervisor({name: Profile(**each) for name, each in json.loads(profiles).items()})
    sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = hypervisor
    threading.Thread(target=_execute, args=(hypervisor,), name="execute", daemon=True).start()
    sys.path.insert(0, parent)
    status: int = importlib.import_module("resync_on_resume.__main__").main(arguments, os.environ)
    return status


if __name__ == "__main__":
    # Exits as the service's own program does.
    os._exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
