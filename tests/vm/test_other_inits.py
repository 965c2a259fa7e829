"""The role extended_agent in guests without systemd: sysvinit, and OpenRC with either kind of init script."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks_in_guest
from tests.support.correction import NEAR_NS, entry_of
from tests.support.until import until
from tests.vm.deployment import LEFT, ROLE, changed, commands, deploy, is_in_front, stands_alone, stock_answers
from tests.vm.errors import VmError
from tests.vm.guest import BOOT_DEADLINE_S, Guest
from tests.vm.saved_state import GuestKind
from tests.vm.session import restored_guest

STOCK = "/etc/init.d/qemu-guest-agent"
STOCK_PIDFILE = "/run/qemu-ga.pid"
AGENT_PIDFILE = "/run/qemu-ga-extended/agent.pid"
WAIT_S = 90.0
# Like Alpine's script, for Debian's program: the variables are those of community/qemu in Alpine's aports.
ALPINES_SCRIPT = """\
#!/sbin/openrc-run
name="QEMU Guest Agent"
pidfile="/run/qemu-ga.pid"
command="/usr/sbin/qemu-ga"
command_args="-m ${GA_METHOD:-virtio-serial} -p ${GA_PATH:-/dev/virtio-ports/org.qemu.guest_agent.0} -l /var/log/a -d"
"""
thorough = pytest.mark.thorough


@pytest.fixture(name="guest", scope="module", params=["sysvinit", pytest.param("openrc", marks=thorough)])
def _guest(request: pytest.FixtureRequest, connection: libvirt.virConnect) -> Iterator[Guest]:
    """A guest with the extended agent, deployed by its role."""
    with restored_guest(connection, f"qga-{request.param}", GuestKind(kind=request.param, is_extended=True)) as guest:
        yield guest


def output_of(guest: Guest, script: str) -> str:
    """Return the output of a script in the guest; empty while it cannot be run."""
    with suppress(libvirt.libvirtError, VmError):
        return guest.sh(script)
    return ""


def pid_of(guest: Guest, pidfile: str) -> int:
    """Return the process ID in a file, or 0 while it cannot be read."""
    return int(output_of(guest, f"cat {pidfile}") or 0)


def run_by_witness(guest: Guest, script: str, mark: str) -> None:
    """Run a script as root through the witness, and wait for its end."""
    guest.witness.start(f"{script}; echo {mark} >/dev/ttyS0")
    until(lambda: guest.console.shows(mark), f"this script has not ended: {script}", 2 * WAIT_S)


def test_the_extended_agent_corrects_the_clock(guest: Guest) -> None:
    assert is_in_front(guest)
    guest.witness.step(-3_000_000_000)
    entry = entry_of(guest)
    assert (entry["changed"], entry["method"]) == (True, "extended")
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS
    assert "rtc-error" not in guest.ask("guest-update-time", seconds=0, relative=True, rtc=True)


def test_it_runs_as_its_user_with_one_capability_and_only_that_user_can_open_the_private_socket(guest: Guest) -> None:
    status = guest.sh(f"cat /proc/$(cat {AGENT_PIDFILE})/status")
    held = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith(("Cap", "NoNew"))}
    assert held == {
        **dict.fromkeys(("CapInh:", "CapAmb:"), f"{0:016x}"),
        **dict.fromkeys(("CapPrm:", "CapEff:", "CapBnd:"), f"{1 << 25:016x}"),
        "NoNewPrivs:": "1",
    }
    paths = "/run/qemu-ga-extended/stock.sock /var/lib/qemu-ga-extended/agent/stock.json"
    assert guest.sh(f"stat -c '%U %a' {paths}") == "qemu-ga-extended 600\n" * 2


@pytest.mark.parametrize("pidfile", [STOCK_PIDFILE, AGENT_PIDFILE])
def test_an_agent_that_was_killed_is_restarted(guest: Guest, pidfile: str) -> None:
    before = pid_of(guest, pidfile)
    guest.witness.start(f"kill -KILL {before}")
    until(lambda: pid_of(guest, pidfile) not in (0, before), "the agent was not restarted", WAIT_S)
    assert is_in_front(guest)
    assert stock_answers(guest)


@thorough
def test_a_stopped_stock_agent_stays_stopped_until_an_administrator_starts_it(guest: Guest) -> None:
    guest.witness.start(f"{STOCK} stop")
    until(lambda: not stock_answers(guest), "the stock agent was not stopped", WAIT_S)
    # Several rounds of the supervisor, which restarts the extended agent meanwhile.
    run_by_witness(guest, f"kill -KILL $(cat {AGENT_PIDFILE}); sleep 8", "the supervisor has checked again")
    until(lambda: "guest-get-clock" in commands(guest), "guest-get-clock is not available")
    with pytest.raises(libvirt.libvirtError, match="stock agent is unavailable: it is not running"):
        guest.ask("guest-get-host-name")
    guest.witness.start(f"{STOCK} start")
    until(lambda: stock_answers(guest), "the stock agent was not started", WAIT_S)


@thorough
def test_a_second_run_and_a_check_change_nothing(guest: Guest) -> None:
    before = pid_of(guest, AGENT_PIDFILE), pid_of(guest, STOCK_PIDFILE)
    assert changed(deploy(guest)) == []
    verbose = {"extended_agent_verbose": True}
    task = {"name": "Check", "ansible.builtin.include_role": {"name": ROLE}, "vars": verbose}
    run = run_tasks_in_guest(guest.name, [task], "--check")
    assert run.status == 0, run.output
    (shipped,) = (record for record in run.tasks if record.task.endswith(": Copy files"))
    assert shipped.result["stdout_lines"] == ["changed /etc/qemu-ga-extended.conf"]
    assert (pid_of(guest, AGENT_PIDFILE), pid_of(guest, STOCK_PIDFILE)) == before


@thorough
def test_both_agents_run_after_a_reboot(guest: Guest) -> None:
    booted = guest.sh("cat /proc/sys/kernel/random/boot_id")
    guest.witness.start("reboot")
    until(lambda: not guest.agent_is_connected, "the guest does not shut down", BOOT_DEADLINE_S)
    guest.wait()
    until(lambda: is_in_front(guest) and stock_answers(guest), "the agents are not running", WAIT_S)
    assert guest.sh("cat /proc/sys/kernel/random/boot_id") != booted
    assert changed(deploy(guest)) == []


@thorough
def test_the_stock_agent_takes_over_if_the_extended_one_cannot_start_or_does_not_stay_up(guest: Guest) -> None:
    with pytest.raises(VmError, match=r"(?s)reverted to the stock agent.*ModuleNotFoundError"):
        deploy(guest, extended_agent_code=["roles/extended_agent/files/qemu_ga_extended/*.py"])
    assert stands_alone(guest)
    deploy(guest)
    assert is_in_front(guest)

    spoiled = "/usr/lib/qemu-ga-extended/qemu_ga_extended/loop.py"
    guest.witness.start(f"sed -i '1s/^/import no_such_module\\n/' {spoiled}; kill -KILL $(cat {AGENT_PIDFILE})")
    until(lambda: stands_alone(guest), "the channel was not handed back", WAIT_S)
    supervisors = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '[q]emu-ga-extended/supervise' || true"
    assert guest.sh(supervisors) == "0\n"
    deploy(guest)
    assert is_in_front(guest)


@thorough
def test_an_unconfirmed_switch_is_reverted(guest: Guest) -> None:
    own, work = "/usr/lib/qemu-ga-extended/switch", "/run/qemu-ga-extended-switch"
    guest.sh(f"rm -rf {work}; mkdir {work}; sed s/confirm_seconds=120/confirm_seconds=3/ {own} >{work}/switch")
    run_by_witness(guest, f"/bin/sh {work}/switch extended", f"{work} has ended")
    assert stands_alone(guest)
    assert "The play did not reach the guest within 3 seconds" in guest.sh(f"cat {work}/result")
    guest.witness.start(f": >{work}/confirmed; /bin/sh {own} extended")
    until(lambda: is_in_front(guest), "the extended agent is not back", WAIT_S)


# The tests that change the guest permanently come last.
def test_the_role_removes_the_extended_agent_and_the_stock_agent_remains(guest: Guest) -> None:
    deploy(guest, extended_agent_state="absent")
    assert stands_alone(guest)
    assert guest.sh(LEFT) == ""


@thorough
def test_a_stock_agent_with_a_native_openrc_script(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-alpine", GuestKind(kind="openrc")) as guest:
        script = base64.b64encode(ALPINES_SCRIPT.encode()).decode()
        guest.witness.start(f"{STOCK} stop; echo {script} | base64 -d >{STOCK}; {STOCK} zap; {STOCK} start")
        runs = "rc-service qemu-guest-agent status"
        until(lambda: "status: started" in output_of(guest, runs), "the stock agent does not run", WAIT_S)
        deploy(guest)
        assert is_in_front(guest)
        assert "# qemu-ga-extended" in guest.sh("cat /etc/conf.d/qemu-guest-agent")
        test_an_agent_that_was_killed_is_restarted(guest, STOCK_PIDFILE)
        test_a_stopped_stock_agent_stays_stopped_until_an_administrator_starts_it(guest)
        assert changed(deploy(guest)) == []
        test_the_role_removes_the_extended_agent_and_the_stock_agent_remains(guest)
