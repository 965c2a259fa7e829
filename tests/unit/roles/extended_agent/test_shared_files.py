# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's files that the agent is shipped with: all that it imports, and those that the README names."""

from __future__ import annotations

import re

from ansible_collections.qemu.guest_agent.tests.support.extended_agent import PACKAGE
from ansible_collections.qemu.guest_agent.tests.support.role_package import ROOT


def test_the_readme_names_the_files_to_copy() -> None:
    text = (ROOT / "roles/extended_agent/README.md").read_text()
    sentence = re.search(r"these files of the collection's `plugins/module_utils`(.*?)\. Have", text, re.DOTALL)
    assert sentence is not None
    assert re.findall(r"`([\w/]+\.py)`", sentence[1]) == PACKAGE.shared_files()
