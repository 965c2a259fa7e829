# Copyright (c) 2026, the qemu.guest_agent maintainers GNU General Public License v3.0 or later (see
# LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt) SPDX-License-Identifier: GPL-3.0-or-later

# /// script
# dependencies = ["nox>=2025.02.09", "antsibull-nox>=1.2"]
# ///

"""The checks that other collections have, under the same names. antsibull-nox.toml configures them.

uv and pipx install what is needed: pipx run noxfile.py --list. All other checks are targets of the Makefile.
"""

from __future__ import annotations

import sys

try:
    import antsibull_nox
    import nox
except ImportError:
    sys.exit(
        "nox and antsibull-nox must be in the same environment: use pipx run noxfile.py, or .venvs/release/bin/nox"
    )

# Next to make's environments: ignored by git, and removed by "make clean".
nox.options.envdir = ".venvs/nox"

antsibull_nox.load_antsibull_nox_toml()

if __name__ == "__main__":
    nox.main()
