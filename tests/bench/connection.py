"""Tasks in a guest without a network, alternately over our connection plugin and community.libvirt's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import Figures, Say
from tests.processes.ansible_run import CONNECTION, PlaybookRun, run_tasks
from tests.support.collection import BUILD, install
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.lock import locked

THEIRS = "community.libvirt.libvirt_qemu"
# The package that contains community.libvirt, so that Galaxy is not needed.
BUNDLE = "ansible==12.*"
PINGS = 5
COPIES = 2
MEGABYTES = 10

# Their plugin runs commands without HOME, so Ansible's temporary directory would be in the root directory.
_COMMON = {"ansible_remote_tmp": "/tmp/.ansible"}  # noqa: S108  # the guest's
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    CONNECTION: {**_COMMON, "ansible_qga_uri": "qemu:///system"},
    THEIRS: {**_COMMON, "ansible_libvirt_uri": "qemu:///system"},
}
# The number of tasks of each kind; each runs over both connections, one after the other.
_ROUNDS: Mapping[str, int] = {"raw": PINGS, "ping": PINGS, "compiled": COPIES, "copy": COPIES, "text": COPIES}
# Additional variables for both; their plugin ignores them.
_WITH: Mapping[str, Mapping[str, object]] = {"compiled": {"ansible_qga_module_cache": False}}


def bench_connections(guest: Guest, say: Say) -> Figures:
    """Measure the median seconds of each task by connection plugin; None: the plugin cannot run the task.

    ``raw`` runs ``true``, the cost of a command. ``ping`` is the module, and ``compiled`` is the module without code
    cached in the guest; ``copy`` copies 10 MiB of random bytes, and ``text`` 10 MiB of a log. Ansible verifies the
    checksum of each copy.
    """
    size = MEGABYTES * 1024 * 1024
    with tempfile.TemporaryDirectory() as directory:
        for name, content in {"copy": os.urandom(size), "text": _log(size)}.items():
            (Path(directory) / name).write_bytes(content)
        tasks = [
            _task(name, connection, directory, turn)
            for name, rounds in _ROUNDS.items()
            # The first task is not counted: it reads Python's files and builds the module's archive.
            for turn in range(1 + rounds)
            for connection in _SETTINGS
        ]
        paths = os.pathsep.join(map(str, (install(), community_libvirt())))
        reached = ("-i", f"{guest.name},", "-e", json.dumps({"ansible_python_interpreter": "/usr/bin/python3"}))
        run = run_tasks(tasks, *reached, host=guest.name, environment={"ANSIBLE_COLLECTIONS_PATH": paths})
    figures: Figures = {}
    ratios = []
    for name in _ROUNDS:
        ours, theirs = seconds = [_median(run, f"{name} {connection} ") for connection in _SETTINGS]
        if ours is None:
            raise VmError(f"The playbook failed:\n{run.output}")
        ratio = None if theirs is None else theirs / ours
        ratios.append(f"{name} {'failed' if ratio is None else f'{ratio:.1f} times'}")
        figures[f"connection_{name}_ratio"] = ratio
        figures[f"connection_{name}_s"] = dict(zip(_SETTINGS, seconds, strict=True))
    say(f"faster than {THEIRS}: {', '.join(ratios)}")
    return figures


def _log(size: int) -> bytes:
    lines = (
        f"Nov 24 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} web1 daemon[{number % 977}]: "
        f"request {number * 7919 % 100003} took {number * 31 % 997} ms\n"
        for number in range(size // 50)
    )
    return "".join(lines).encode()[:size]


def community_libvirt() -> Path:
    """Return a collections path with community.libvirt, from the Ansible package, which is downloaded once."""
    path = BUILD / "community_libvirt"
    with locked(BUILD / "community_libvirt.lock"):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as directory:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, BUNDLE]
                subprocess.run(command, check=True)
                (wheel,) = Path(directory).glob("ansible-*.whl")
                unpacked = Path(directory) / "unpacked"
                with zipfile.ZipFile(wheel) as bundle:
                    wanted = "ansible_collections/community/libvirt/"
                    bundle.extractall(unpacked, [name for name in bundle.namelist() if name.startswith(wanted)])
                unpacked.rename(path)
    return path


def _task(name: str, connection: str, directory: str, turn: int) -> dict[str, Any]:
    actions: Mapping[str, dict[str, Any]] = {
        "raw": {"ansible.builtin.raw": "true"},
        "ping": {"ansible.builtin.ping": {}},
        "compiled": {"ansible.builtin.ping": {}},
    }
    there = "/root/{}-{}-{}".format(name, turn, connection.replace(".", "-"))
    copy = {"ansible.builtin.copy": {"src": f"{directory}/{name}", "dest": there}}
    return {
        "name": f"{name} {connection} {turn}",
        **actions.get(name, copy),
        "vars": {"ansible_connection": connection, **_SETTINGS[connection], **_WITH.get(name, {})},
        "ignore_errors": True,
        "ignore_unreachable": True,
    }


def _median(run: PlaybookRun, prefix: str) -> float | None:
    records = [record for record in run.tasks if record.task.startswith(prefix)][1:]
    if not records or any(record.outcome not in ("ok", "changed") or record.result.get("failed") for record in records):
        return None
    return median(record.seconds for record in records)
