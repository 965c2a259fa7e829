"""Kept inputs: a JSON file for each target, with descriptive names.

Each character stands for the byte of the same number, so that the files are text for all inputs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")


def inputs(target: str) -> dict[str, bytes]:
    """Return the kept inputs of a target, by name."""
    path = _path(target)
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return {name: text.encode("latin-1") for name, text in kept.items()}


def keep(target: str, data: bytes) -> str:
    """Keep an input that failed, and return its name. A new input needs a better name by hand."""
    known = inputs(target)
    name = next(
        (name for name, each in known.items() if each == data), f"found-{hashlib.sha256(data).hexdigest()[:12]}"
    )
    kept = {**known, name: data}
    text = json.dumps({each: kept[each].decode("latin-1") for each in sorted(kept)}, indent=1)
    _path(target).write_text(text + "\n")
    return name


def _path(target: str) -> Path:
    return DIRECTORY / f"{target}.json"
