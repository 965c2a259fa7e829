# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A survey as Ansible's caches keep it, and read back without trusting what is read."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping

from .survey import Question, Survey, Surveyed

# Of what is kept. Another one is not read.
_VERSION = 1


def digest(question: Question) -> str:
    """What tells the answers to different questions apart; fit to be part of a file's name."""
    return hashlib.sha256(json.dumps(vars(question), sort_keys=True).encode()).hexdigest()[:16]


def written(survey: Survey) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "guests": [guest.as_dict() for guest in survey.guests],
        "warnings": list(survey.warnings),
    }


def read(kept: Any) -> Survey | None:
    """The survey, in plain types; None: it is none."""
    try:
        plain = json.loads(json.dumps(kept))
        if not isinstance(plain, Mapping) or plain.get("version") != _VERSION:
            return None
        warnings = tuple(warning for warning in plain["warnings"] if isinstance(warning, str))
        return Survey(tuple(map(Surveyed.of_dict, plain["guests"])), warnings)
    except (KeyError, TypeError, ValueError):
        return None
