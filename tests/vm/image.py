"""Build the image of a guest from its recipe, once."""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.vm import cache
from tests.vm.errors import VmError
from tests.vm.recipe import Recipe

# The file is sparse; a guest needs about 0.6 GiB.
DISK_SIZE = "3G"
# The packages, the root, and the disk made of it, at a time.
NEEDS_MIB = 2500
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils", "apt-get": "apt"}
LOG_TAIL_LINES = 15
# How a service is enabled in a root that is not running, by its init.
ENABLE = {
    "systemd": 'systemctl --root="$1" enable {}.service',
    "sysvinit": 'chroot "$1" update-rc.d {} defaults',
    "openrc": 'chroot "$1" rc-update add {} default',
}


@dataclasses.dataclass(frozen=True)
class Image:
    """What a guest boots from. Never written to: guests write to overlays."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"

    @property
    def disk(self) -> Path:
        """A raw ext4 file system, without a partition table."""
        return self.directory / "disk.raw"


def image_for(recipe: Recipe, say: Callable[[str], None] = print) -> Image:
    """The image of a recipe: from the cache, or built now."""

    def build(directory: Path) -> None:
        begun = time.monotonic()
        say(f"building the {recipe.release} image (about a minute, then it is cached)")
        _build(recipe, directory)
        say(f"built the {recipe.release} image in {time.monotonic() - begun:.0f} s")

    return Image(cache.entry(f"{recipe.release}-{recipe.key}", build, NEEDS_MIB))


def _build(recipe: Recipe, target: Path) -> None:
    _require_means()
    root = target / "root"
    log = target.with_name(f"{target.name}.log")
    log.unlink(missing_ok=True)
    files = target / "files.tar"
    files.write_bytes(_tar(recipe))
    _run(_mmdebstrap(recipe, root, files), log)
    for stem in ("vmlinuz", "initrd.img"):
        # Debian leaves symbolic links of these names in the root, to the newest kernel.
        shutil.copyfile(root / stem, target / stem)
    _run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(target / "disk.raw"), DISK_SIZE], log)
    cache.remove(root)
    files.unlink()


def _require_means() -> None:
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)
    if missing:
        raise VmError(f"Building an image needs tools that are not installed: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise VmError("Building an image needs root, because Debian packages own files as root: run this as root.")


def _mmdebstrap(recipe: Recipe, root: Path, files: Path) -> list[str]:
    mirror = debian_mirror()
    services = [ENABLE[recipe.init].format(shlex.quote(name)) for name in recipe.enabled_services]
    services += [f'systemctl --root="$1" mask {shlex.join(recipe.masked_units)}'] if recipe.masked_units else []
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--architectures=amd64",
        f"--include={','.join(recipe.packages)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        # Before the kernel is installed, so that its initrd is made by our settings.
        f"--essential-hook=tar-in {shlex.quote(str(files))} /",
        *(f"--customize-hook={command}" for command in services),
        # Empty, not missing or "uninitialized": systemd then makes an id without the long first-boot set-up.
        '--customize-hook=: > "$1/etc/machine-id"',
        recipe.release,
        str(root),
        *(f"deb {mirror} {release} main" for release in dict.fromkeys([recipe.release, recipe.kernel_release])),
    ]


def debian_mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    chosen = os.environ.get("QGA_VM_MIRROR")
    if chosen:
        return chosen
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    for line in targets.splitlines():
        label, _separator, uri = line.partition("|")
        if label == "Debian":
            return uri
    raise VmError(
        "This machine's apt knows no Debian mirror: run apt-get update, or name a mirror's URL in QGA_VM_MIRROR."
    )


def _tar(recipe: Recipe) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in recipe.files:
            member = tarfile.TarInfo(file.path)
            member.size = len(file.content)
            member.mode = 0o755 if file.is_executable else 0o644
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def _run(command: list[str], log: Path) -> None:
    with log.open("ab") as output:
        status = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise VmError(f"{command[0]} failed with status {status}; the end of its log, {log}:\n{tail}")
