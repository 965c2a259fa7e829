"""The collection's coroutines as blocking functions, for the many tests with only one guest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import AgentInfo, GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a blocking version of a coroutine function. It unwraps arguments that are :class:`Blocking` views."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        return tasks.run(function(*map(_shown, arguments), **{name: _shown(each) for name, each in options.items()}))

    return call


def _shown(value: Any) -> Any:
    return value.shown if isinstance(value, Blocking) else value


class Blocking:
    """A view of ``shown`` with blocking methods in place of coroutine methods. All else is passed through."""

    shown: Any

    def __init__(self, shown: Any) -> None:
        object.__setattr__(self, "shown", shown)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.shown, name)
        return blocking(value) if inspect.iscoroutinefunction(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.shown, name, value)

    def __str__(self) -> str:
        return str(self.shown)

    def __enter__(self) -> Any:
        tasks.run(self.shown.__aenter__())
        return self

    def __exit__(self, *what: Any) -> None:
        tasks.run(self.shown.__aexit__(*what))


class BlockingAgent(Blocking):
    """The agent on a channel, which may be a blocking view."""

    def __init__(self, channel: Channel | Blocking, timeout: float, frozen_patience: float = 0.0) -> None:
        super().__init__(GuestAgent(_shown(channel), timeout, frozen_patience))

    @property
    def info(self) -> AgentInfo:
        return tasks.run(self.shown.info())
