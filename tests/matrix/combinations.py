# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is tried: which ansible-core on which Python, where that Python is, and what is run there."""

from __future__ import annotations

from dataclasses import dataclass

# Whatever is shipped to guests and hypervisors, which have the Python that they have.
ON_TARGETS = ("plugins/module_utils", "plugins/modules", "roles")
EVERYTHING = ("plugins", "extensions", "roles")

_TESTS_ON_TARGETS = (
    *("tests/unit/plugins/module_utils", "tests/unit/roles"),
    # These need Ansible, which targets do not have.
    "--ignore=tests/unit/plugins/module_utils/test_module.py",
    "--ignore=tests/unit/plugins/module_utils/test_module_fleet.py",
    "--ignore=tests/unit/roles/resync_on_resume/test_templates.py",
    # What runs on controllers alone, whose Python is 3.11 or newer: inventories read addresses (010.0.0.1 is one before
    # Python 3.9.5), connections keep modules.
    "--ignore=tests/unit/plugins/module_utils/test_addresses.py",
    "--ignore=tests/unit/plugins/module_utils/test_module_cache.py",
    "--ignore=tests/unit/plugins/module_utils/test_survey.py",
)


@dataclass(frozen=True)
class Combination:
    """``core`` is None where only that is tried which needs no Ansible. ``release``: the Debian release whose Python it
    is; None is this machine's, in the environment ``venv``.
    """

    core: str | None
    release: str | None = None
    venv: str = ""
    compiled: tuple[str, ...] = EVERYTHING
    tests: tuple[str, ...] = ("tests/unit",)

    @property
    def name(self) -> str:
        what = "targets" if self.core is None else f"core-{self.core}"
        return what if self.release is None else f"{what}-{self.release}"


COMBINATIONS: tuple[Combination, ...] = (
    Combination("2.17", venv=".venvs/core-2.17"),
    Combination("2.18", venv=".venvs/core-2.18"),
    Combination("2.19", venv=".venv"),
    Combination("2.20", "trixie"),
    Combination("2.21", "trixie"),
    Combination(None, "bullseye", compiled=ON_TARGETS, tests=_TESTS_ON_TARGETS),
)
