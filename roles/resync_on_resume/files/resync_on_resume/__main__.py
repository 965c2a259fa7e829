# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: options and exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Mapping, NoReturn, Sequence

from guest_agent._errors import MissingLibraryError

from .config import CONFIG_FILE, Config, ConfigError, read
from .lock import AlreadyRunningError, default_path, hold
from .log import standard_log
from .service import Service, StopSignals

# sysexits(3)
_USAGE = 64
_UNAVAILABLE = 69
_SOFTWARE = 70
_CANNOT_CREATE = 73
_TEMPORARY_FAILURE = 75
_CONFIG = 78


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _print_error(message)
        sys.exit(_USAGE)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="resync_on_resume",
        description="Resyncs the clock of each guest that is resumed, restored, reverted or migrated to this machine.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="PATH", default=CONFIG_FILE, help=f"configuration (default: {CONFIG_FILE})")
    add("--check-config", action="store_true", help="validate the configuration and exit")
    add("--lock", metavar="PATH", help="lock file of the one running service (default: lock, in its runtime directory)")
    return parser.parse_args(arguments)


def _print_error(text: object) -> None:
    sys.stderr.write(f"qga-resync-on-resume: {text}\n")


def _origin_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown location" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _serve(config: Config, environment: Mapping[str, str]) -> int:
    stop = StopSignals()
    stop.listen()
    try:
        Service(config, standard_log(environment), stop).run()
    except MissingLibraryError as error:
        _print_error(f"{error.message}; install python3-libvirt, or libvirt-python for this interpreter")
        return _UNAVAILABLE
    except Exception as error:
        _print_error(f"internal error: {type(error).__name__} at {_origin_of(error)}: {error}")
        return _SOFTWARE
    return 0


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    chosen = _options(arguments)
    try:
        config = read(chosen.config)
    except ConfigError as error:
        _print_error(error)
        return _CONFIG
    if chosen.check_config:
        return 0
    path = chosen.lock or default_path(environment)
    try:
        with hold(path):
            return _serve(config, environment)
    except AlreadyRunningError as error:
        _print_error(error)
        return _TEMPORARY_FAILURE
    except OSError as error:
        _print_error(f"cannot create the lock '{path}': {error.strerror or error}")
        return _CANNOT_CREATE


if __name__ == "__main__":
    status = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    # A normal exit of the interpreter closes libvirt's connections, which blocks if the daemon hangs.
    os._exit(status)
