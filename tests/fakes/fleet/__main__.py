"""A simulated fleet to try things on by hand: python -m tests.fakes.fleet DIRECTORY."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fakes.fleet.fleet import SimulatedFleet, SimulatedFleetError
from tests.fakes.fleet.profile import named, profiles


def _number(kind: Callable[[str], float], least: float, most: float, what: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return read


_COUNT = _number(int, 1, 1_000_000, "a number of agents, 1 or more")
_HOSTS = _number(int, 0, 1_000_000, "a number of hosts, 0 or more")
_SEED = _number(int, -(2**63), 2**63, "a whole number")
_SHARE = _number(float, 0, 1, "a share from 0 to 1")
_SECONDS = _number(float, 0, 3600, "a number of seconds from 0 to 3600")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.fleet",
        description="Run simulated guest agents, each on a unix socket of its own, until interrupted. Their clocks are "
        "behind by 1 to 20 s, every tenth one ahead; setting them changes no real clock.",
        epilog="example: python -m tests.fakes.fleet /tmp/fleet --count 1000 --hosts 20 --dead 0.1",
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="where the sockets go; made if it is not there"
    )
    parser.add_argument("--count", type=_COUNT, default=1000, help="how many agents (default: %(default)s)")
    parser.add_argument(
        "--hosts", type=_HOSTS, default=0, help="put them into directories of so many hosts (default: into one for all)"
    )
    parser.add_argument("--seed", type=_SEED, default=1, help="another seed, other agents (default: %(default)s)")
    parser.add_argument(
        "--dead", type=_SHARE, default=0.0, help="share of agents that never answer, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--stock", type=_SHARE, default=0.0, help="share of stock agents, 0 to 1; the others are extended (default: 0)"
    )
    parser.add_argument(
        "--delay", type=_SECONDS, default=0.0, help="seconds that a request takes, and its reply (default: none)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # Who starts it in the background may have had it ignore interrupts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    drawn = profiles(
        options.count, options.seed, stock=options.stock, dead=options.dead, delay_seconds=(options.delay,) * 2
    )
    try:
        with SimulatedFleet(options.directory, named(drawn, options.hosts)) as fleet:
            print(f"{len(fleet.paths)} agents listen, from {fleet.paths[0]}\nto {fleet.paths[-1]}", flush=True)
            print("Interrupt with Ctrl-C.", flush=True)
            fleet.wait()
    except (OSError, ValueError, SimulatedFleetError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
