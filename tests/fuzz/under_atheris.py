"""Run one target under atheris: python -m tests.fuzz.under_atheris TARGET WORST DIRECTORY [libFuzzer's options].

The longest processor time of an input, in seconds, is written to the file WORST; libFuzzer counts whole seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris

from tests.support.collection import make_importable

make_importable()

# Packages whose coverage guides it. The extended agent's package is imported under another name.
FOLLOWED = ["ansible_collections.qemu.guest_agent.plugins", "qemu_ga_extended"]


def timed(target: Callable[[bytes], None], path: Path) -> Callable[[bytes], None]:
    worst = 0.0

    def run(data: bytes) -> None:
        nonlocal worst
        began = time.thread_time()
        target(data)
        took = time.thread_time() - began
        if took > worst:
            worst = took
            path.write_text(f"{took}\n")  # now, because libFuzzer ends the process without notice

    return run


def main(arguments: list[str]) -> None:
    name, worst, *others = arguments
    with atheris.instrument_imports(include=FOLLOWED):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *others], timed(TARGETS[name], Path(worst)))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
