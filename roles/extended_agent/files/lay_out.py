# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a directory hold exactly the files given on standard input, as a JSON object of names and contents.

The role sends the agent's package in this one piece: file by file, it would take minutes through a guest agent.
Usage: lay_out.py DIRECTORY [--dry-run]. What is, or would be, different is printed, one line for each file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# What Python makes beside the files.
CACHE = "__pycache__"


def main(directory: Path, dry_run: bool) -> None:
    wanted: dict[str, str] = json.load(sys.stdin)
    present = {path.name for path in directory.iterdir()} - {CACHE} if directory.is_dir() else set()
    for name in sorted(present - set(wanted)):
        print(f"removed {name}")
        if not dry_run:
            (directory / name).unlink()
    for name, content in sorted(wanted.items()):
        path = directory / name
        if name in present and path.read_bytes() == content.encode():
            continue
        print(f"{'changed' if name in present else 'created'} {name}")
        if not dry_run:
            # Whole or not at all: the agent may start at any moment.
            part = directory / f".{name}"
            part.write_text(content, encoding="utf-8")
            part.chmod(0o644)
            os.replace(part, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--dry-run" in sys.argv[2:])
