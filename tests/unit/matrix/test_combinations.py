# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import yaml

from tests.matrix.combinations import COMBINATIONS
from tests.matrix.root import Root
from tests.support.ansible_run import CORES
from tests.support.collection import ROOT


def test_the_oldest_core_is_the_one_that_the_collection_asks_for() -> None:
    asked = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    oldest = min((each.core for each in COMBINATIONS if each.core), key=lambda core: int(core.split(".")[1]))
    assert asked == f">={oldest}.0"


def test_no_core_is_left_out_between_the_oldest_and_the_newest() -> None:
    minors = sorted(int(each.core.split(".")[1]) for each in COMBINATIONS if each.core)
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_what_is_tested_here_is_what_playbooks_are_tested_on() -> None:
    assert {each.core for each in COMBINATIONS if each.release is None} == set(CORES)


def test_names_are_unique() -> None:
    names = [each.name for each in COMBINATIONS]
    assert len(set(names)) == len(names)


def test_what_is_compiled_tested_and_ignored_is_there() -> None:
    for combination in COMBINATIONS:
        for path in (*combination.compiled, *combination.tests):
            assert (ROOT / path.removeprefix("--ignore=")).exists(), path


def test_releases_do_not_share_a_root() -> None:
    assert Root("bullseye").directory != Root("trixie").directory
