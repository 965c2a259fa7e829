"""Running a program on a terminal of its own, and finding terminal commands in its output."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tty
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(command: Sequence[str], environment: Mapping[str, str], directory: Path | None = None) -> tuple[int, str]:
    """Return the program's exit status, and its exact output on the terminal."""
    ours, theirs = os.openpty()
    with contextlib.closing(os.fdopen(ours, "rb", buffering=0)) as output:
        # Otherwise, the terminal itself adds a carriage return to the end of each line.
        tty.setraw(theirs)
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        received = bytearray()
        # Linux reports an error for a terminal that no process has open any more.
        with contextlib.suppress(OSError):
            while chunk := output.read(65536):
                received += chunk
        return process.wait(), received.decode("utf-8")


def commands_in(output: str) -> list[str]:
    """Return everything that a terminal would obey or hide, except ends of lines, with the text around it."""
    return [
        ascii(output[max(0, place - 40) : place + 20])
        for place, character in enumerate(output)
        if not (character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs")
    ]
