"""Where images, saved states and the files of running guests are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Images and saved states: large, and can be made again."""
    chosen = os.environ.get("QGA_VM_CACHE")
    return Path(chosen).absolute() if chosen else _xdg("XDG_CACHE_HOME", ".cache") / "images"


def state_dir() -> Path:
    """Overlays, sockets, console logs and records of what runs."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, default: str) -> Path:
    # The XDG base directory specification: a relative path is to be ignored.
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path.home() / default) / "qemu.guest_agent"
