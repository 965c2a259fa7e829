"""Inputs that are kept: a file of JSON for each target, under names that say what they are.

A character stands for the byte of the same number, so that the files are text whatever the inputs are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")


def inputs(target: str) -> dict[str, bytes]:
    """The kept inputs of a target, by name."""
    path = _path(target)
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return {name: text.encode("latin-1") for name, text in kept.items()}


def keep(target: str, data: bytes) -> str:
    """Keep what has found a defect; its name, which deserves to be a better one if it was not kept before."""
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
