"""A running rulebook: the real ansible-rulebook, with the collection installed as a user would install it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.collection import PACKAGE, install

# Two programs, in Java and Python, have to start, on a machine that may be busy.
DEADLINE_S = 90.0
_END_SECONDS = 30.0

# Not in this clone, whose files may change while a test runs.
INVENTORY = PACKAGE / "extensions" / "eda" / "inventory.yml"


class Rulebook:
    """A context manager that runs a rulebook in ``directory`` and ends it.

    ``arguments`` go to ansible-rulebook. ``playbook_variables`` are those that a user would write into the inventory.
    """

    def __init__(
        self,
        name: str | Path,
        directory: Path,
        *arguments: str,
        variables: Mapping[str, Any] | None = None,
        playbook_variables: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        collections = install()
        variables_file, inventory = directory / "vars.yml", directory / "inventory.yml"
        variables_file.write_text(json.dumps(dict(variables or {})))
        hosts = yaml.safe_load((collections / INVENTORY).read_text())
        hosts["all"]["vars"] = dict(playbook_variables or {})
        inventory.write_text(yaml.safe_dump(hosts))
        program = Path(sys.executable).parent / "ansible-rulebook"
        self._command = [str(program), "-r", str(name), "-i", str(inventory), "--vars", str(variables_file), *arguments]
        self._directory = directory
        # A playbook that runs at its end leaves its files there.
        temporary = directory / "tmp"
        temporary.mkdir()
        self._environment = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "TMPDIR": str(temporary),
            **(environment or {}),
        }
        self._changed = threading.Condition()
        self._output = ""

    def __enter__(self) -> Rulebook:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="rulebook's output", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    @property
    def output(self) -> str:
        """Return its output until now, including the output of programs that it ran."""
        with self._changed:
            return self._output

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, pattern: str, times: int = 1, seconds: float = DEADLINE_S) -> None:
        """Wait until so many lines of the output match the regular expression."""
        until = time.monotonic() + seconds
        with self._changed:
            while len(re.findall(f"(?m){pattern}", self._output)) < times:
                assert self.is_running, f"the rulebook has ended:\n{self._output}"
                assert time.monotonic() < until, f"{pattern} was not printed {times} times:\n{self._output}"
                self._changed.wait(0.1)

    def end(self) -> int:
        """End it as an operator would, and return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._reader.join(_END_SECONDS)

    def wait(self, seconds: float = DEADLINE_S) -> int:
        """Wait until it ends by itself, and return its exit status."""
        status = self._process.wait(seconds)
        self._reader.join(_END_SECONDS)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._output += line
                self._changed.notify_all()
