"""Running a program on a terminal of its own, and what a terminal must not be sent."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tty
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(command: Sequence[str], environment: Mapping[str, str], directory: Path | None = None) -> tuple[int, str]:
    """The program's exit status, and all that it sent to the terminal, byte for byte."""
    ours, theirs = os.openpty()
    with contextlib.closing(os.fdopen(ours, "rb", buffering=0)) as output:
        # Else the terminal itself puts a carriage return before the end of each line.
        tty.setraw(theirs)
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        received = bytearray()
        # Linux reports the end of a terminal that nobody holds open any more as an error.
        with contextlib.suppress(OSError):
            while chunk := output.read(65536):
                received += chunk
        return process.wait(), received.decode("utf-8")


def commands_in(output: str) -> list[str]:
    """What a terminal would obey or not show, with what stands before and behind it. Ends of lines are none of it."""
    return [
        ascii(output[max(0, place - 40) : place + 20])
        for place, character in enumerate(output)
        if not (character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs")
    ]
