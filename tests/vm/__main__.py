"""Test guests from the command line: python -m tests.vm --help."""

from __future__ import annotations

import argparse
import sys

from tests.vm import libvirtd
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.recipe import DEFAULT_KIND, DEFAULT_RELEASE, KIND_PACKAGES, RELEASE_PACKAGES
from tests.vm.saved_state import GuestKind, restored


def up(arguments: argparse.Namespace) -> None:
    connection = libvirtd.connect()
    for name in arguments.names:
        found = Guest.find(connection, name)
        if found is None:
            restored(connection, name, GuestKind(arguments.release, arguments.kind))
        elif not found.is_running:
            raise VmError(f"{name} exists and is {found.state}: run python -m tests.vm down {name} first.")
        print(f"{name} is up")


def down(arguments: argparse.Namespace) -> None:
    connection = libvirtd.connect()
    for name in arguments.names:
        Guest.clear(connection, name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="Test guests under libvirt.")
    commands = parser.add_subparsers(required=True)
    for run, text in (
        (up, "start guests from a saved state, and wait for their agents"),
        (down, "destroy guests and all their files, if they exist"),
    ):
        command = commands.add_parser(run.__name__, help=text)
        command.add_argument("names", nargs="+", metavar="name")
        command.set_defaults(run=run)
        if run is up:
            command.add_argument("--release", choices=RELEASE_PACKAGES, default=DEFAULT_RELEASE)
            command.add_argument("--kind", choices=KIND_PACKAGES, default=DEFAULT_KIND)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except VmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
