"""Test guests from the command line: python -m tests.vm --help."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from tests.vm.errors import VmError

LIBVIRT_MODULES = ("libvirt", "libvirt_qemu")


def main() -> int:
    arguments = _parser().parse_args()
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    try:
        arguments.run(arguments, say)
    except VmError as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in LIBVIRT_MODULES:
            raise
        print("The Python module libvirt is missing: pip install libvirt-python (needs libvirt-dev).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


Say = Callable[[str], None]


def _up(arguments: argparse.Namespace, say: Say) -> None:
    from tests.vm import libvirtd
    from tests.vm.guest import Guest
    from tests.vm.saved_state import GuestKind, restored

    connection = libvirtd.connect(say)
    kind = GuestKind(arguments.release, arguments.kind)
    for name in arguments.names:
        found = Guest.find(connection, name)
        if found is not None and not found.is_running:
            raise VmError(f"{name} exists and is {found.state}: python -m tests.vm down {name} first.")
        if found is None:
            restored(connection, name, kind, say)
        say(f"{name} is up")


def _down(arguments: argparse.Namespace, say: Say) -> None:
    from tests.vm import guest, libvirtd

    connection = libvirtd.connect(say)
    ours = {found.name: found for found in guest.Guest.all(connection)}
    if not arguments.all and arguments.name not in ours:
        raise VmError(f"There is no test guest {arguments.name}.")
    for name in ours if arguments.all else [arguments.name]:
        ours[name].destroy()
        say(f"destroyed {name}")


def _list(_arguments: argparse.Namespace, say: Say) -> None:
    from tests.vm import guest, libvirtd

    for found in guest.Guest.all(libvirtd.connect(say)):
        print(f"{found.name}\t{found.state}")


def _build(arguments: argparse.Namespace, say: Say) -> None:
    from tests.vm import image, recipe

    say(str(image.image_for(recipe.recipe_for(arguments.release, kind=arguments.kind), say).directory))


def _stop(_arguments: argparse.Namespace, say: Say) -> None:
    from tests.vm import libvirtd

    _down(argparse.Namespace(all=True), say)
    libvirtd.stop(say)


def _parser() -> argparse.ArgumentParser:
    from tests.vm.recipe import DEFAULT_KIND, DEFAULT_RELEASE, KIND_PACKAGES, RELEASE_PACKAGES

    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="Test guests under libvirt.")
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="start guests from a saved state, and wait for their agents")
    up.add_argument("names", nargs="+", metavar="name")
    up.add_argument("--release", choices=RELEASE_PACKAGES, default=DEFAULT_RELEASE)
    up.add_argument("--kind", choices=KIND_PACKAGES, default=DEFAULT_KIND)
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="destroy a guest and all its files")
    which = down.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?")
    which.add_argument("--all", action="store_true")
    down.set_defaults(run=_down)
    listing = commands.add_parser("list", help="the guests that there are")
    listing.set_defaults(run=_list)
    build = commands.add_parser("build", help="build an image into the cache")
    build.add_argument("release", choices=RELEASE_PACKAGES)
    build.add_argument("--kind", choices=KIND_PACKAGES, default=DEFAULT_KIND)
    build.set_defaults(run=_build)
    stop = commands.add_parser("stop", help="destroy our guests and end the daemons that we started")
    stop.set_defaults(run=_stop)
    return parser


if __name__ == "__main__":
    sys.exit(main())
