"""Build a guest's image from its recipe, once."""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.vm import cache
from tests.vm.errors import VmError
from tests.vm.recipe import Recipe

# The file is sparse; a guest needs about 0.6 GiB.
DISK_SIZE = "3G"
LOG_TAIL_LINES = 15
# The command that enables a service in a root directory, by init system.
ENABLE = {
    "systemd": 'systemctl --root="$1" enable {}.service',
    "sysvinit": 'chroot "$1" update-rc.d {} defaults',
    "openrc": 'chroot "$1" rc-update add {} default',
}


@dataclasses.dataclass(frozen=True)
class Image:
    """A guest's kernel, initrd and disk. They are never written to: guests write to overlays."""

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
    """Return the image of a recipe, from the cache or newly built."""

    def build(directory: Path) -> None:
        say(f"building the {recipe.release} image (takes about a minute, then it is cached)")
        _build(recipe, directory)

    return Image(cache.entry(f"{recipe.release}-{recipe.key}", build))


def _build(recipe: Recipe, target: Path) -> None:
    if os.geteuid() != 0:
        raise VmError("Building an image needs root, because Debian packages have files of root: run this as root.")
    root, files = target / "root", target / "files.tar"
    log = target.with_name(f"{target.name}.log")
    log.unlink(missing_ok=True)
    files.write_bytes(_tar(recipe))
    _run(_mmdebstrap(recipe, root, files), log)
    for stem in ("vmlinuz", "initrd.img"):
        # Debian's symbolic links to the newest kernel have these names.
        shutil.copyfile(root / stem, target / stem)
    _run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(target / "disk.raw"), DISK_SIZE], log)
    cache.remove(root)
    files.unlink()


def _mmdebstrap(recipe: Recipe, root: Path, files: Path) -> list[str]:
    mirror = debian_mirror()
    services = [ENABLE[recipe.init].format(shlex.quote(name)) for name in recipe.enabled_services]
    services += [f'systemctl --root="$1" mask {shlex.join(recipe.masked_units)}'] if recipe.masked_units else []
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64"),
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
        # Before the kernel is installed, so that its initrd is made with these settings.
        f"--essential-hook=tar-in {shlex.quote(str(files))} /",
        *(f"--customize-hook={command}" for command in services),
        # Empty, not missing or "uninitialized": systemd then creates an ID without the slow first-boot setup.
        '--customize-hook=: > "$1/etc/machine-id"',
        recipe.release,
        str(root),
        *(f"deb {mirror} {release} main" for release in dict.fromkeys([recipe.release, recipe.kernel_release])),
    ]


def debian_mirror() -> str:
    """Return the Debian mirror that this machine's apt uses."""
    chosen = os.environ.get("QGA_VM_MIRROR")
    if chosen:
        return chosen
    command = ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    targets = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    for line in targets.splitlines():
        label, _separator, uri = line.partition("|")
        if label == "Debian":
            return uri
    raise VmError("apt has no Debian mirror: run apt-get update, or set QGA_VM_MIRROR to the URL of a mirror.")


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
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise VmError(f"{command[0]} failed with status {done.returncode}; the end of its log, {log}:\n{tail}")
