"""One run of a module against a hostile agent, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """``arguments`` are a module's. ``libvirtd`` is the socket of the daemon behind ``domain``, ``vsock`` the unix
    socket that stands in for all vsock ports. ``hypervisors``: a function of tests.fakes.hypervisors with its
    arguments, which makes those behind ``domains``.
    """

    module: str
    arguments: Mapping[str, Any]
    libvirtd: str | None = None
    vsock: str | None = None
    hypervisors: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of a case. ``result`` is what the module printed; None: it printed no JSON.

    ``noise`` is what else there was: a traceback, or more output. ``peak_kib`` is the highest resident memory while it
    ran, above what an honest agent had left the process with; ``kept_kib`` is what it has left behind of that.
    """

    result: dict[str, Any] | None
    noise: str
    seconds: float
    peak_kib: int
    kept_kib: int
    threads_left: list[str] = field(default_factory=list)
    descriptors_left: list[str] = field(default_factory=list)
