# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line program."""

from __future__ import annotations

import os
import sys
from typing import Callable, Mapping, Sequence

from . import hardware_clock, options, privileges
from .agent import Agent, MakePort
from .clock import KernelClock
from .dispatch import Dispatcher
from .limits import Costs
from .log import Log
from .loop import Loop
from .policy import Lists
from .ports import (
    DevicePort,
    ListeningPort,
    Port,
    PortError,
    inherited_listener,
    listen_unix,
    listen_vsock,
    open_serial,
    open_virtio,
)

_DEVICES = {"virtio-serial": open_virtio, "isa-serial": open_serial}
_LISTENERS = {"unix-listen": listen_unix, "vsock-listen": listen_vsock}
# The JSON parser needs one Python stack frame for each level of nesting, and QEMU allows 1024 levels.
_RECURSION = 4000


def port_maker(chosen: options.Options, environment: Mapping[str, str]) -> MakePort:
    """
    :raises PortError: the socket from systemd cannot be used
    :raises options.OptionError: the path is missing
    """
    inherited = inherited_listener(environment)
    if inherited is None and not chosen.path:
        raise options.OptionError(f"--path is required with --method {chosen.method}")

    def make(loop: Loop, dispatcher: Dispatcher, log: Log, on_lost: Callable[[PortError], None]) -> Port:
        if inherited is not None:
            return ListeningPort(loop, dispatcher, log, lambda: inherited)
        if chosen.method in _LISTENERS:
            return ListeningPort(loop, dispatcher, log, lambda: _LISTENERS[chosen.method](chosen.path))
        return DevicePort(
            loop,
            dispatcher,
            log,
            lambda: _DEVICES[chosen.method](chosen.path),
            None if chosen.retry_path else on_lost,
        )

    return make


def _print_error(text: object) -> None:
    sys.stderr.write(f"qemu-ga-extended: {text}\n")


def _origin_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown location" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        chosen, is_dump = options.read(arguments, environment)
        if is_dump:
            sys.stdout.write(options.dump(chosen))
            return 0
        make_port = port_maker(chosen, environment)
        if chosen.user:
            privileges.drop(chosen.user)
        sys.setrecursionlimit(_RECURSION)
        agent = Agent(
            make_port,
            chosen.stock_path,
            chosen.statedir,
            Lists(chosen.allow_rpcs, chosen.block_rpcs),
            KernelClock(),
            hardware_clock.update,
            Log(chosen.logfile, chosen.verbose),
            Costs(),
            chosen.pidfile,
            chosen.stock_memory,
        )
        return agent.run()
    except options.OptionError as error:
        _print_error(error)
        return 2
    except (PortError, privileges.PrivilegeError) as error:
        _print_error(error)
    except OSError as error:
        _print_error(f"{error.filename or 'the agent'}: {error.strerror or error}")
    except Exception as error:
        # Without its text, which may contain data from a request, such as a password or a file.
        _print_error(f"internal error: {type(error).__name__} at {_origin_of(error)}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
