# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reaches a test guest, which has no network, through its guest agent."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: guest_exec
short_description: Run tasks in a test guest through its guest agent
description:
  - Just enough to run a role in a guest, as root.
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
options:
  host:
    description: The domain.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
"""

URI = "qemu:///system"
CALL_TIMEOUT_S = 20
EXEC_TIMEOUT_S = 600.0
POLL_S = 0.05
# A request of 256 KiB never arrives whole at QEMU 7.2's virtio port, and the channel stays blocked.
CHUNK_BYTES = 64 * 1024
INPUT_FILE = "/run/ansible-input"
# The agent runs as a daemon and has neither.
ENVIRONMENT = ["HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]


class Connection(ConnectionBase):  # type: ignore[misc]
    """Commands by guest-exec, files by guest-file."""

    transport = "guest_exec"
    has_pipelining = True
    # Whatever Ansible's own settings: each exchange that is saved is a part of a second under software emulation.
    always_pipeline_modules = True

    def _connect(self) -> Connection:
        if not self._connected:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            self._call("guest-ping")
            self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if in_data:
            # A module does not fit into the request itself, where guest-exec would take it.
            self._write(INPUT_FILE, in_data)
            cmd = f"exec <{INPUT_FILE}; rm {INPUT_FILE}; {cmd}"
        arguments = {"path": "/bin/sh", "arg": ["-c", cmd], "env": ENVIRONMENT, "capture-output": True}
        process = self._call("guest-exec", **arguments)["pid"]
        deadline = time.monotonic() + EXEC_TIMEOUT_S
        while time.monotonic() < deadline:
            status = self._call("guest-exec-status", pid=process)
            if status["exited"]:
                output, errors = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
                return status.get("exitcode", 128 + status.get("signal", 0)), output, errors
            time.sleep(POLL_S)
        raise AnsibleConnectionFailure(f"{cmd} has not ended after {EXEC_TIMEOUT_S:g} s")

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        source = Path(in_path)
        if not source.is_file():
            raise AnsibleFileNotFound(f"{in_path} does not exist")
        self._write(out_path, source.read_bytes())

    def _write(self, path: str, content: bytes) -> None:
        handle = self._call("guest-file-open", path=path, mode="wb")
        for start in range(0, len(content), CHUNK_BYTES):
            piece = base64.b64encode(content[start : start + CHUNK_BYTES]).decode()
            self._call("guest-file-write", handle=handle, **{"buf-b64": piece})
        self._call("guest-file-close", handle=handle)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        handle = self._call("guest-file-open", path=in_path, mode="rb")
        with open(out_path, "wb") as target:
            while piece := self._call("guest-file-read", handle=handle, count=CHUNK_BYTES)["buf-b64"]:
                target.write(base64.b64decode(piece))
        self._call("guest-file-close", handle=handle)

    def reset(self) -> None:
        self.close()

    def close(self) -> None:
        self._connected = False

    def _call(self, command: str, **arguments: Any) -> Any:
        # A connection for each call costs a millisecond, and none outlives a fork of Ansible's workers.
        try:
            connection = libvirt.open(URI)
            try:
                domain = connection.lookupByName(self.get_option("host"))
                request = json.dumps({"execute": command, "arguments": arguments})
                return json.loads(libvirt_qemu.qemuAgentCommand(domain, request, CALL_TIMEOUT_S, 0))["return"]
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            raise AnsibleConnectionFailure(f"{command}: {error}") from error
