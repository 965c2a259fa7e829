# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print where an event source finds its collection, and what of Ansible it has imported for it, as JSON."""

from __future__ import annotations

import json
import runpy
import sys

found = runpy.run_path(sys.argv[1])
try:
    core = found["_load_core"]()
    print(json.dumps([core.watcher.__file__, sorted(name for name in sys.modules if name.startswith("ansible"))]))
except RuntimeError as error:
    print(json.dumps([str(error), None]))
