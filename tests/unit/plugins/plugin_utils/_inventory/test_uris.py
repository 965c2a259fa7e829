from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.uris import host_of, local_uri


@pytest.mark.parametrize(
    ("uri", "host", "local"),
    [
        ("qemu:///system", "localhost", "qemu:///system"),
        ("qemu:///session", "localhost", "qemu:///session"),
        ("qemu+unix:///system?socket=/run/x", "localhost", "qemu+unix:///system?socket=/run/x"),
        ("qemu+ssh://root@hv1.example.com:22/system", "hv1.example.com", "qemu:///system"),
        ("qemu+ssh://root@hv1/session?keyfile=/k&no_verify=1", "hv1", "qemu:///session"),
        ("qemu+tls://hv1/system", "hv1", "qemu:///system"),
        ("qemu://hv1/system", "hv1", "qemu:///system"),
        ("qemu+ssh://root@[2001:db8::1]:2222/system", "2001:db8::1", "qemu:///system"),
        ("qemu+ssh://hv1/?name=qemu:///embed?root=/x", "hv1", "qemu:///embed?root=/x"),
        ("test+tcp://hv1/default", "hv1", "test:///default"),
        ("an alias of libvirt.conf", "localhost", "an alias of libvirt.conf"),
        ("qemu://[bad/system", "qemu://[bad/system", "qemu://[bad/system"),
    ],
)
def test_a_uri_gives_the_hypervisor_and_the_uri_to_use_on_it(uri: str, host: str, local: str) -> None:
    assert (host_of(uri), local_uri(uri)) == (host, local)
