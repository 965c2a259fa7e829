"""A fake of libvirt-python as the collection uses it, with a fake daemon in another process."""

from __future__ import annotations

from multiprocessing.connection import Client

from tests.fakes.domains import Domain
from tests.fakes.libvirt_replies import NO_DOMAIN_METADATA, SYSTEM_ERROR, LibvirtError
from tests.fakes.one_domain import FakeLibvirt

AUTHKEY = b"hostile"


class RemoteLibvirt(FakeLibvirt):
    """A fake libvirt that reaches its domain's agent through the daemon that listens at ``path``."""

    def __init__(self, path: str, name: str = "tenant") -> None:
        super().__init__(name=name, metadata_error=LibvirtError(NO_DOMAIN_METADATA))
        self._path = path

    def modules(self) -> tuple[RemoteLibvirt, RemoteLibvirt]:
        """Replace ``hypervisor.import_libvirt``."""
        return self, self

    def qemuAgentCommand(self, domain: Domain, text: str, timeout: int, _flags: int) -> str:  # noqa: N802
        domain.connection.require_alive()
        try:
            with Client(self._path, "AF_UNIX", authkey=AUTHKEY) as daemon:
                daemon.send((text, timeout))
                self.channel_state, code, reply = daemon.recv()
        except EOFError:
            domain.connection.is_broken = True
            raise LibvirtError(SYSTEM_ERROR, "End of file while reading data: Input/output error") from None
        if not code:
            return str(reply, "utf-8")
        try:
            raise LibvirtError(code, str(reply, "utf-8"))
        except UnicodeDecodeError as error:
            # libvirt-python creates the text of an error in a callback, which cannot raise an exception.
            raise SystemError("<built-in function> returned a result with an exception set") from error
