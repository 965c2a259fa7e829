"""ansible-core's own tests of connection plugins, from its source distribution, run where they lie and not copied."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ansible.release

from tests.support.collection import BUILD, install
from tests.vm.lock import locked


def integration_targets() -> Path:
    """The directory of the integration targets of the ansible-core that runs here; downloaded once."""
    version = ansible.release.__version__
    unpacked = BUILD / "core_targets" / version
    with locked(BUILD / "core_targets.lock"):
        if not unpacked.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as directory:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "ansible-core"]
                command = [*pip, "--dest", directory, f"ansible-core=={version}"]
                subprocess.run(command, check=True, capture_output=True)
                (archive,) = Path(directory).glob("ansible_core-*.tar.gz")
                with tarfile.open(archive) as content:
                    wanted = [each for each in content if "/test/integration/targets/connection" in each.name]
                    content.extractall(Path(directory) / "unpacked", wanted, filter="data")
                unpacked.parent.mkdir(exist_ok=True)
                (Path(directory) / "unpacked" / f"ansible_core-{version}").rename(unpacked)
    return unpacked / "test" / "integration" / "targets"


def run_connection_target(inventory: Mapping[str, Mapping[str, str]], local_tmp: Path, remote_tmp: str) -> str:
    """Run the target ``connection`` on hosts with these variables; all that it printed.

    :raises AssertionError: it failed
    """
    with tempfile.TemporaryDirectory() as directory:
        hosts = Path(directory) / "inventory"
        lines = [
            " ".join((name, *(f"{key}={value}" for key, value in values.items()))) for name, values in inventory.items()
        ]
        hosts.write_text("[guests]\n" + "\n".join(lines) + "\n")
        variables = {"target_hosts": "guests", "action_prefix": "", "local_tmp": local_tmp, "remote_tmp": remote_tmp}
        done = subprocess.run(
            ["bash", "./test.sh", *(word for name, value in variables.items() for word in ("-e", f"{name}={value}"))],
            cwd=integration_targets() / "connection",
            env={
                **os.environ,
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
                "INVENTORY": str(hosts),
                "ANSIBLE_COLLECTIONS_PATH": str(install()),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                # The files of the tests have names in Chinese.
                "LC_ALL": "C.UTF-8",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    return done.stdout
