# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: qga
short_description: Run tasks in a guest through its QEMU guest agent
version_added: 1.0.0
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
description:
  - Runs commands in a virtual machine and copies files to and from it, through the QEMU guest agent in the guest. The
    guest needs no network, no SSH and no password.
  - Ansible runs on the hypervisor, or on a machine that can reach its libvirt or the agent's channel.
  - Commands run as the agent's user, usually C(root). Use O(ignore:become) to run them as another user.
  - A command is started at most once. If a reply is lost, or the agent is unavailable for a moment, the plugin looks up
    the command's result in the guest.
notes:
  - The guest's administrator may have disabled the agent's commands C(guest-exec), C(guest-exec-status),
    C(guest-file-open), C(guest-file-close), C(guest-file-read), C(guest-file-seek) and C(guest-file-write), as RHEL
    does by default.
  - Tasks in Windows guests are not supported; use WinRM or SSH for them. No Windows guest was used to test this
    collection.
  - The input and output of commands are never logged, at any verbosity.
requirements:
  - ansible-core 2.16 or newer and Python 3.10 or newer where Ansible runs
  - libvirt-python for that Python if the guest is a libvirt domain
  - a POSIX shell in the guest
seealso:
  - plugin: qemu.guest_agent.libvirt_guests
    plugin_type: inventory
    description: An inventory of guests, which can use this connection.
  - name: The role extended_agent
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/roles/extended_agent/README.md
    description: A role that can run over this connection.
  - name: Running tasks in a guest without a network
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/docs/docsite/rst/connection.rst
    description: What works, how lost replies are handled, and what to do if the agent's commands are disabled.
options:
  remote_addr:
    description:
      - The libvirt domain, if none of O(domain), O(socket), O(address) and O(vsock) is given.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: delegated_vars['ansible_host']
  domain:
    description:
      - Name or UUID of the libvirt domain, if it differs from the inventory hostname.
      - Give at most one of O(domain), O(socket), O(address) and O(vsock).
    type: str
    vars: [{name: ansible_qga_domain}]
    env: [{name: ANSIBLE_QGA_DOMAIN}]
    ini: [{section: qga_connection, key: domain}]
  uri:
    description:
      - URI of the libvirt connection that has the domain.
    type: str
    default: qemu:///system
    vars: [{name: ansible_qga_uri}]
    env: [{name: ANSIBLE_QGA_URI}]
    ini: [{section: qga_connection, key: uri}]
  socket:
    description:
      - Path of the unix socket that is the host's end of the agent's channel, for QEMU without libvirt.
      - Such a socket serves one client at a time. The connection releases it at least once a second while a command
        runs, so that other clients can use it.
      - A libvirt domain's socket belongs to libvirt; use O(domain) for such a guest.
    type: path
    vars: [{name: ansible_qga_socket}]
    env: [{name: ANSIBLE_QGA_SOCKET}]
    ini: [{section: qga_connection, key: socket}]
  address:
    description:
      - The host's end of the agent's channel as C(host:port), for a QEMU character device on TCP.
      - Put an IPv6 address in brackets, as in V([::1]:4444).
    type: str
    vars: [{name: ansible_qga_address}]
    env: [{name: ANSIBLE_QGA_ADDRESS}]
    ini: [{section: qga_connection, key: address}]
  vsock:
    description:
      - An agent that listens on vsock in the guest, as C(cid:port).
    type: str
    vars: [{name: ansible_qga_vsock}]
    env: [{name: ANSIBLE_QGA_VSOCK}]
    ini: [{section: qga_connection, key: vsock}]
  timeout:
    description:
      - Timeout in seconds for one exchange with the agent, including the time to connect. It does not limit commands.
    type: float
    default: 10
    vars: [{name: ansible_qga_timeout}]
    env: [{name: ANSIBLE_TIMEOUT}, {name: ANSIBLE_QGA_TIMEOUT}]
    ini: [{section: defaults, key: timeout}, {section: qga_connection, key: timeout}]
    cli: [{name: timeout}]
  exec_timeout:
    description:
      - Timeout in seconds for a command, including the transfer of its input. A command that takes longer is killed in
        the guest with all processes that it started, and the task fails. Its output must also be read within this time,
        or within 5 seconds after the command ends.
      - This is also the limit for copying one file to or from the guest.
      - V(0) means no limit.
    type: int
    default: 3600
    vars: [{name: ansible_qga_exec_timeout}]
    env: [{name: ANSIBLE_QGA_EXEC_TIMEOUT}]
    ini: [{section: qga_connection, key: exec_timeout}]
  reconnect_timeout:
    description:
      - Seconds to wait for an agent that becomes unavailable during a command. The agent may be restarting, its guest
        may be paused or frozen, or another client may be using its O(socket), O(address) or O(vsock).
      - The connection also waits this long for a frozen guest before it starts a command or copies a file.
      - After O(exec_timeout) has passed, the limit is 5 seconds.
    type: int
    default: 20
    vars: [{name: ansible_qga_reconnect_timeout}]
    env: [{name: ANSIBLE_QGA_RECONNECT_TIMEOUT}]
    ini: [{section: qga_connection, key: reconnect_timeout}]
  max_output:
    description:
      - Maximum MiB that a command may write to standard output, and the same for standard error. A command that writes
        more receives C(SIGPIPE), and the task fails.
    type: int
    default: 64
    vars: [{name: ansible_qga_max_output}]
    env: [{name: ANSIBLE_QGA_MAX_OUTPUT}]
    ini: [{section: qga_connection, key: max_output}]
  max_fetch:
    description:
      - Maximum size in MiB of a file that is fetched from the guest. With a larger file, the task fails and nothing is
        kept. The task also fails if a file is larger than the size that the guest reported.
      - This keeps a guest from filling the disk of the machine where Ansible runs. Raise it for files that you know to
        be large. They must also be transferred within O(exec_timeout).
    type: int
    default: 1024
    vars: [{name: ansible_qga_max_fetch}]
    env: [{name: ANSIBLE_QGA_MAX_FETCH}]
    ini: [{section: qga_connection, key: max_fetch}]
  executable:
    description:
      - The shell in the guest that runs the commands. It must accept a command after C(-c).
    type: str
    default: /bin/sh
    vars: [{name: ansible_qga_executable}]
    env: [{name: ANSIBLE_QGA_EXECUTABLE}]
    ini: [{section: qga_connection, key: executable}]
  guest_directories:
    description:
      - Directories in the guest. The connection uses the first one that the agent can write to. It keeps the input and
        output of commands there until the task is done, in a subdirectory that only the agent's user can read.
      - The first default is in memory on Linux. The default is not C(/run), because the agent keeps its own state there
        and stops working if C(/run) is full.
    type: list
    elements: str
    default: [/dev/shm, /var/tmp, /tmp]
    vars: [{name: ansible_qga_guest_directories}]
    env: [{name: ANSIBLE_QGA_GUEST_DIRECTORIES}]
    ini: [{section: qga_connection, key: guest_directories}]
  module_cache:
    description:
      - Cache the compiled code of Ansible's modules in the guest, so that Python does not compile each module and its
        imports again for each task.
      - The cache is the directory C(qga-code-UID) in the first usable one of O(guest_directories). Only that user can
        read it. It stays there after the task and takes up to 16 MiB for each user. With the default directories it is
        in memory, and is lost when the guest reboots.
    type: bool
    default: true
    vars: [{name: ansible_qga_module_cache}]
    env: [{name: ANSIBLE_QGA_MODULE_CACHE}]
    ini: [{section: qga_connection, key: module_cache}]
  become_success_timeout:
    description:
      - Timeout in seconds for privilege escalation with a password. Nothing that a guest sends extends it.
    type: int
    default: 10
    vars: [{name: ansible_qga_become_success_timeout}]
    env: [{name: ANSIBLE_QGA_BECOME_SUCCESS_TIMEOUT}]
    ini: [{section: qga_connection, key: become_success_timeout}]
  pipelining:
    description:
      - Pass a module directly to its interpreter instead of copying it to the guest first. This is much faster and
        leaves no module in the guest.
    type: bool
    default: true
    vars: [{name: ansible_pipelining}, {name: ansible_qga_pipelining}]
    env: [{name: ANSIBLE_PIPELINING}, {name: ANSIBLE_QGA_PIPELINING}]
    ini: [{section: connection, key: pipelining}, {section: qga_connection, key: pipelining}]
"""

EXAMPLES = r"""
# An inventory in which hosts are named like their domains
guests:
  hosts:
    web1:
    web2:
      ansible_qga_domain: 5fc1e6ba-8a29-4b0a-9a0c-3c2f7ce1a1d0
    router:
      ansible_qga_socket: /var/run/qemu-server/104.qga
  vars:
    ansible_connection: qemu.guest_agent.qga
    ansible_qga_uri: qemu:///system
"""

import os
import threading
from contextlib import contextmanager, suppress
from typing import Callable, Iterator, TypeVar

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    InvalidOptionError,
    sentence,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.become import Dialog
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import FailedInGuestError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import settings_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import GuestSession
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._replaced_file import replaced

# These fail the task; after any other error the host is unreachable.
_FAILURES = (CommandFailedError, InvalidOptionError, FailedInGuestError)

_OPTIONS = (
    *("remote_addr", "domain", "uri", "socket", "address", "vsock", "timeout", "exec_timeout", "reconnect_timeout"),
    *("max_output", "max_fetch", "executable", "guest_directories", "module_cache", "become_success_timeout"),
)

display = Display()

Result = TypeVar("Result")

_SERVE_ONE_CLIENT = ("socket", "address", "vsock")


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible has no types
    """Runs commands with guest-exec and copies files with the guest-file commands."""

    transport = "qemu.guest_agent.qga"
    has_pipelining = True
    has_tty = False

    # After so many seconds without a request, the agent is released for other clients: between two polls of an async
    # task, or two attempts of a task with retries.
    idle_seconds = 1.0

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._connected: bool = False
        self._session: GuestSession | None = None
        self._idle = IdleTimer(self.idle_seconds, self._let_go)

    def _connect(self) -> Connection:
        if not self._connected:
            with self._ansible_errors():
                settings = settings_of({name: self.get_option(name) for name in _OPTIONS})
                self._log(3, f"connecting to the guest agent of '{settings.target.name}'")
                self._session = GuestSession(settings, self._observe)
                try:
                    self._wait_for(self._session.connect())
                except BaseException:
                    self._disconnect()
                    raise
            self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        data = in_data or b""
        self._log(3, f"EXEC a command of {len(cmd)} characters with {len(data)} bytes of input")
        dialog = self._dialog() if sudoable else None
        with self._ansible_errors():
            finished = self._wait_for(self._open_session.run(cmd, data, dialog))
        errors = finished.errors if dialog is None else dialog.without_prompt(finished.errors)
        self._log(
            3,
            f"exit status {finished.status}, {len(finished.output)} bytes of standard output, "
            f"{len(errors)} bytes of standard error",
        )
        return finished.status, finished.output, errors + finished.signal_note

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        if not os.path.isfile(in_path):
            raise AnsibleFileNotFound(f"there is no file '{in_path}' on the controller", file_name=in_path)
        with open(in_path, "rb") as file, self._ansible_errors():
            size = self._wait_for(self._open_session.put(file, out_path))
        self._log(3, f"PUT {size} bytes")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        try:
            with replaced(out_path) as file, self._ansible_errors():
                self._wait_for(self._open_session.fetch(in_path, file))
                size = f"{file.tell()} bytes" if file.seekable() else "a stream"
        except OSError as error:
            raise AnsibleError(f"cannot write '{out_path}' on the controller: {error.strerror or error}") from error
        self._log(3, f"FETCH {size}")

    def reset(self) -> None:
        """Close the connection. The next task gets a new channel, and nothing known of the guest is reused."""
        self.close()

    def close(self) -> None:
        if self._connected:
            self._disconnect()
        self._connected = False

    @property
    def _open_session(self) -> GuestSession:
        if self._session is None:
            raise AnsibleConnectionFailure("the connection to the guest agent is closed")
        return self._session

    def _wait_for(self, task: tasks.Task[Result]) -> Result:
        with self._idle.busy(restarts=any(self.get_option(name) is not None for name in _SERVE_ONE_CLIENT)):
            return tasks.run(task)

    def _let_go(self) -> None:
        if self._session is not None:
            with suppress(QgaError):
                tasks.run(self._session.let_go())

    def _disconnect(self) -> None:
        with self._idle.busy():
            session, self._session = self._session, None
            if session is not None:
                with suppress(QgaError):
                    tasks.run(session.close())

    def _dialog(self) -> Dialog | None:
        if self.become is None or not self.become.expect_prompt():
            return None
        password = self.become.get_option("become_pass", playcontext=self._play_context)
        return Dialog(self.become, str(password).encode("utf-8"), self.get_option("become_success_timeout"))

    @contextmanager
    def _ansible_errors(self) -> Iterator[None]:
        """
        :raises AnsibleConnectionFailure: the guest cannot be reached
        :raises AnsibleError: it can be reached, but the command or the file copy failed
        """
        try:
            yield
        except QgaError as error:
            kind = AnsibleError if isinstance(error, _FAILURES) else AnsibleConnectionFailure
            raise kind(sentence(error)) from None  # with a cause, Ansible would print the text twice

    def _observe(self, command: str, seconds: float) -> None:
        self._log(4, f"{command} took {seconds * 1000:.1f} ms")

    def _log(self, verbosity: int, text: str) -> None:
        # Never a command line, its input or its output: passwords can be in all three.
        display.verbose(f"QGA {text}", host=self.get_option("remote_addr"), caplevel=verbosity - 1)


class IdleTimer:
    """Runs an action once, on its own thread, after so many idle seconds."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    @contextmanager
    def busy(self, restarts: bool = False) -> Iterator[None]:
        """Hold the action back during the block. Afterwards, restart the timer if ``restarts``."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            try:
                yield
            finally:
                if restarts:
                    self._timer = threading.Timer(self._seconds, self._act)
                    self._timer.daemon = True
                    self._timer.start()

    def _act(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._action()
