"""One run of a module against a hostile agent, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """``arguments`` are a module's. ``libvirtd`` is the socket of the daemon that serves ``domain``, ``vsock`` the unix
    socket that replaces all vsock ports. ``hypervisors`` is a function of tests.fakes.hypervisors with its arguments,
    which returns the hypervisors for ``domains``.
    """

    module: str
    arguments: Mapping[str, Any]
    libvirtd: str | None = None
    vsock: str | None = None
    hypervisors: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """The result of a case. ``result`` is the module's output, or None if that was not JSON.

    ``noise`` is everything else: a traceback, or more output. ``peak_kib`` is the peak of resident memory during the
    run, above the level after an honest agent; ``kept_kib`` is the part of it that was not freed.
    """

    result: dict[str, Any] | None
    noise: str
    seconds: float
    peak_kib: int
    kept_kib: int
    threads_left: list[str] = field(default_factory=list)
    descriptors_left: list[str] = field(default_factory=list)
