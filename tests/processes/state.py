"""Processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """Stop the process during the block, as if it hung."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def stat_of(process: int) -> list[str]:
    """Return the fields of proc(5) after the process's name, beginning with its state."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def is_gone(process: int) -> bool:
    """Return whether the process has ended. A zombie has."""
    try:
        return stat_of(process)[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
