# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent as a whole: assembling its parts, starting and stopping."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from typing import Callable

from guest_agent._linux import systemd

from .clock import KernelClock
from .dispatch import Dispatcher
from .limits import Costs
from .log import Log
from .loop import Loop
from .own_commands import Context
from .policy import Lists, Policy
from .ports import Port, PortError
from .stock import Memory, Stock
from .trust import DistrustError, following, require_private_socket

MakePort = Callable[[Loop, Dispatcher, Log, Callable[[PortError], None]], Port]


class Agent:
    """``make_port`` makes the port to the host, which opens once the stock agent has listed its commands."""

    def __init__(
        self,
        make_port: MakePort,
        stock_path: str,
        state_directory: str,
        lists: Lists,
        clock: KernelClock,
        update_rtc: Callable[[], str | None],
        log: Log,
        costs: Costs,
        pidfile: str = "",
        stock_memory: str = "",
    ) -> None:
        self._log = log
        self._stock_path = stock_path
        self._pidfile = pidfile
        self._costs = costs
        self.loop = Loop()
        self._stock = Stock(self.loop, stock_path, state_directory, costs, log, Memory(stock_memory, log))
        context = Context(clock, self._stock, Policy(lists, self._stock), update_rtc)
        self._dispatcher = Dispatcher(self.loop, context, costs, log)
        self._port = make_port(self.loop, self._dispatcher, log, self._fail)
        self._is_open = False
        self._problem: PortError | None = None

    def run(self) -> int:
        """Run until a signal arrives; return the exit status.

        :raises PortError: the port to the host cannot be used, or the stock agent's socket cannot be trusted
        :raises OSError: the PID file cannot be written
        """
        try:
            # The stock agent may start later.
            with contextlib.suppress(OSError):
                require_private_socket(self._stock_path)
        except DistrustError as error:
            raise PortError(f"the stock agent's socket was rejected: {error}") from error
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.on_signal(number, self.stop)
        self.loop.on_signal(signal.SIGHUP, self._reopen_log)
        if self._pidfile:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | following(self._pidfile)
            with open(os.open(self._pidfile, flags, 0o644), "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        try:
            self._stock.on_known = self._open
            self.loop.later(self._costs.start_seconds, self._open)
            self._stock.link.connect()
            status = self.loop.run()
        finally:
            self._port.close()
            self.loop.close()
            if self._pidfile and not self._stock.is_frozen:
                with contextlib.suppress(OSError):
                    os.unlink(self._pidfile)
        if self._problem is not None:
            raise self._problem
        return status

    def stop(self) -> None:
        """Shut down cleanly. While file systems are frozen, neither agent may end: nothing else would thaw them."""
        if self._stock.is_frozen:
            return
        systemd.notify("STOPPING=1")
        self._port.close()
        self._stock.link.leave(self.loop.stop)

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        # All objects that exist by now stay. Requests leave no garbage; if the collector runs during one, it has almost
        # nothing to scan.
        gc.collect()
        gc.freeze()
        try:
            self._port.open()
        except PortError as error:
            self._fail(error)
            return
        systemd.notify("READY=1")
        seconds = systemd.watchdog_seconds()
        if seconds is not None:
            self._be_alive(seconds)

    def _be_alive(self, seconds: float) -> None:
        systemd.notify("WATCHDOG=1")
        self.loop.later(seconds, lambda: self._be_alive(seconds))

    def _fail(self, problem: PortError) -> None:
        self._problem = self._problem or problem
        self._stock.link.leave(lambda: self.loop.stop(1))

    def _reopen_log(self) -> None:
        with contextlib.suppress(OSError):
            self._log.reopen()
