"""Directories for images, saved states and the files of running guests."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the directory of images and saved states: large, and can be rebuilt."""
    chosen = os.environ.get("QGA_VM_CACHE")
    return Path(chosen).absolute() if chosen else _xdg("XDG_CACHE_HOME", ".cache") / "images"


def state_dir() -> Path:
    """Return the directory of overlays, sockets, console logs and PID files."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, default: str) -> Path:
    # By the XDG base directory specification, relative paths are ignored.
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path.home() / default) / "qemu.guest_agent"
