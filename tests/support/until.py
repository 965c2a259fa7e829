"""Waiting for conditions in tests, not for times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


def until(condition: Callable[[], object], otherwise: str | Callable[[], str], seconds: float = 30.0) -> None:
    """Poll the condition on this thread until it is true. ``otherwise`` is the message if it stays false."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"{otherwise if isinstance(otherwise, str) else otherwise()} (for {seconds:g} s)")
        time.sleep(0.005)


@contextmanager
def meanwhile(work: Callable[[], Result]) -> Iterator[list[Result]]:
    """Run the work on a thread during the block. Its result is in the list afterwards."""
    done: list[Result] = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    try:
        yield done
    finally:
        thread.join()
