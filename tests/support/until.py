"""Waiting in tests: for a condition, not for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


def until(condition: Callable[[], object], otherwise: str | Callable[[], str], seconds: float = 30.0) -> None:
    """Wait for the condition, asked again and again on this thread; ``otherwise`` is what to say if it stays false."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"{otherwise if isinstance(otherwise, str) else otherwise()} (for {seconds:g} s)")
        time.sleep(0.005)


@contextmanager
def meanwhile(work: Callable[[], Result]) -> Iterator[list[Result]]:
    """Work that goes on while the block is run; its result is in the list afterwards."""
    done: list[Result] = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    try:
        yield done
    finally:
        thread.join()
