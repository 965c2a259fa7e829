# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One target under atheris: python -m tests.fuzz.under_atheris TARGET DIRECTORY [libFuzzer's options]."""

from __future__ import annotations

import sys

import atheris

from tests.support.collection import make_importable

make_importable()

# Whose branches lead it. The extended agent's package is imported by another name.
FOLLOWED = ["ansible_collections.qemu.guest_agent.plugins", "qemu_ga_extended"]


def main(arguments: list[str]) -> None:
    with atheris.instrument_imports(include=FOLLOWED):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments[1:]], TARGETS[arguments[0]])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
