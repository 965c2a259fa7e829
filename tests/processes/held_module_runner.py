"""A program for tests: a module in a process of its own, which stops at given moments.

Its only argument is a JSON object, which ``tests.processes.held_module`` writes.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import sys
from typing import Any

from tests.support.collection import make_importable

make_importable()

from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import options  # noqa: E402

from tests.fakes.clock import HostClock  # noqa: E402
from tests.support.ansible_core import module_args  # noqa: E402
from tests.support.moments import Action, Moment, at  # noqa: E402

_MODULES = "ansible_collections.qemu.guest_agent.plugins.modules"


def main(setup: dict[str, Any]) -> None:
    random.seed(setup["seed"])
    reader, writer = setup["ends"]
    host = HostClock()
    options.HostReference = functools.partial(options.HostReference, realtime_ns=host.time_ns)

    def report(number: int, is_held: bool) -> None:
        os.write(writer, b"%d\n" % number)
        if is_held:
            os.read(reader, 1)

    def action(number: int, stop: dict[str, Any]) -> Action:
        if stop["step_host_ns"]:
            return functools.partial(host.step, stop["step_host_ns"])
        return functools.partial(report, number, stop["is_held"])

    stops = {Moment(*stop.pop("moment")): action(number, stop) for number, stop in enumerate(setup["stops"])}
    module = importlib.import_module(f"{_MODULES}.{setup['module']}")
    with module_args(setup["options"]), at(stops):
        module.main()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
