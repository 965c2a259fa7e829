from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.vm.image import ENABLE
from tests.vm.recipe import (
    DEFAULT_INIT,
    DEFAULT_KIND,
    INIT_PACKAGES,
    KIND_INITS,
    KIND_MEMORY_MIB,
    KIND_PACKAGES,
    RELEASE_PACKAGES,
    Recipe,
    recipe_for,
)


@pytest.fixture
def guest_root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "motd").write_text("one")
    return tmp_path


def test_the_same_recipe_has_the_same_key(guest_root: Path) -> None:
    assert recipe_for("bookworm", guest_root).key == recipe_for("bookworm", guest_root).key


def test_a_shipped_files_content_changes_the_key(guest_root: Path) -> None:
    before = recipe_for("bookworm", guest_root).key
    (guest_root / "etc" / "motd").write_text("two")
    assert recipe_for("bookworm", guest_root).key != before


def test_a_shipped_files_place_changes_the_key(guest_root: Path) -> None:
    before = recipe_for("bookworm", guest_root).key
    (guest_root / "etc" / "motd").rename(guest_root / "etc" / "issue")
    assert recipe_for("bookworm", guest_root).key != before


def test_compiled_python_beside_a_shipped_file_does_not_count(guest_root: Path) -> None:
    before = recipe_for("bookworm", guest_root).key
    (guest_root / "__pycache__").mkdir()
    (guest_root / "__pycache__" / "witness.cpython-311.pyc").write_bytes(b"\0")
    assert recipe_for("bookworm", guest_root).key == before


@pytest.mark.parametrize(
    "change",
    [
        {"release": "trixie"},
        {"kernel_release": "bullseye"},
        {"packages": ("udev",)},
        {"init": "openrc"},
        {"enabled_services": ()},
        {"masked_units": ()},
        {"version": 0},
    ],
)
def test_every_part_of_the_recipe_changes_the_key(guest_root: Path, change: dict[str, object]) -> None:
    recipe = recipe_for("bookworm", guest_root)
    changed: Recipe = dataclasses.replace(recipe, **change)  # type: ignore[arg-type]
    assert changed.key != recipe.key


def test_every_release_has_its_own_image() -> None:
    assert len({recipe_for(release).key for release in RELEASE_PACKAGES}) == len(RELEASE_PACKAGES)


def test_every_kind_has_its_own_image_and_its_own_memory() -> None:
    assert len({recipe_for(kind=kind).key for kind in KIND_PACKAGES}) == len(KIND_PACKAGES)
    assert set(KIND_MEMORY_MIB) == set(KIND_PACKAGES)


def test_other_kinds_add_to_the_plain_one() -> None:
    plain = set(recipe_for().packages) - set(INIT_PACKAGES[DEFAULT_INIT])
    assert KIND_PACKAGES[DEFAULT_KIND] == ()
    assert all(set(recipe_for(kind=kind).packages) >= plain for kind in KIND_PACKAGES)


def test_a_guest_has_one_init_and_the_way_to_enable_services_is_known_for_it() -> None:
    for kind in KIND_PACKAGES:
        recipe = recipe_for(kind=kind)
        others = set().union(*(INIT_PACKAGES[init] for init in INIT_PACKAGES)) - set(INIT_PACKAGES[recipe.init])
        assert not others & set(recipe.packages)
        assert recipe.init == KIND_INITS.get(kind, DEFAULT_INIT)
        assert recipe.init in ENABLE
        assert bool(recipe.masked_units) == (recipe.init == DEFAULT_INIT)


@pytest.mark.parametrize("kind", KIND_INITS)
def test_without_systemd_the_witness_has_an_init_script(kind: str) -> None:
    script = next(file for file in recipe_for(kind=kind).files if file.path == "etc/init.d/qga-witness")
    assert script.is_executable
    assert b"/usr/lib/qga-test/witness.py" in script.content


def test_the_witness_is_shipped() -> None:
    assert "usr/lib/qga-test/witness.py" in {file.path for file in recipe_for().files}


def test_the_witness_is_started_by_its_device_however_late_that_appears() -> None:
    unit = next(file.content.decode() for file in recipe_for().files if file.path.endswith("/qga-witness.service"))
    device = r"dev-virtio\x2dports-org.qemu.guest_agent.witness.device"
    assert f"WantedBy={device}\n" in unit
    assert f"BindsTo={device}\n" in unit
