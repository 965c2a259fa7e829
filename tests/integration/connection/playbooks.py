"""Runs playbooks of one or a few tasks over the connection plugin, and returns their results."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.processes.ansible_run import CONNECTION, PlaybookRun, run_playbook

GUEST = "guest1"
SHORT_S = 2
PATIENCE_S = 60.0
PING = [{"name": "ping", "ansible.builtin.ping": {}}]

# Prompts like sudo, and repeats the prompt after a wrong password.
BECOME_SHIM = """#!/bin/sh
prompt=
while [ $# -gt 0 ]; do
  case $1 in
    -p) prompt=$2; shift 2 ;;
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
  esac
done
if [ "$prompt" ]; then
  echo "a lecture" >&2
  for attempt in 1 2 3; do
    printf '%s' "$prompt" >&2
    IFS= read -r answer || exit 1
    [ "$answer" = "it's \\\\ s\u00fc\\$t" ] && exec "$@"
    printf '\\nSorry, try again.\\n' >&2
  done
  exit 1
fi
exec "$@"
"""
PASSWORD = "it's \\ s\u00fc$t"  # noqa: S105  # not a real one


def run(
    socket_path: str, directory: Path, tasks: Sequence[Mapping[str, Any]], *arguments: str, core: str | None = None
) -> PlaybookRun:
    play = {"hosts": GUEST, "gather_facts": False, "tasks": list(tasks)}
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([play], allow_unicode=True))
    kept = directory / "kept"
    kept.mkdir(exist_ok=True)
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_socket": socket_path,
        "ansible_qga_guest_directories": ["/nonexistent", str(kept)],
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(directory / "remote"),
        "ansible_async_dir": str(directory / "async"),
    }
    return run_playbook(playbook, "-i", f"{GUEST},", "-e", json.dumps(variables), *arguments, core=core)


def failure(done: PlaybookRun) -> tuple[str, str]:
    """Return how the only task failed, and its message."""
    (record,) = done.tasks
    return record.outcome, re.sub(r"\s+", " ", record.result["msg"])
