"""What a qga_info task costs, in units of the cheapest task that there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tests.processes.ansible_run import run_tasks
from tests.vm.errors import VmError
from tests.vm.guest import Guest

ROUNDS = 20


@dataclass(frozen=True)
class InfoCost:
    """Seconds for a task, by task, medians over one playbook that runs the two in turn."""

    ping_s: float
    info_s: float

    @property
    def ratio(self) -> float:
        return self.info_s / self.ping_s

    def as_dict(self) -> dict[str, float]:
        return {"info_over_ping": self.ratio, "ping_task_s": self.ping_s, "info_task_s": self.info_s}


def bench_info(guest: Guest, say: Callable[[str], None]) -> InfoCost:
    info = {"domain": guest.name, "uri": guest.uri, "gather_subset": ["min"]}
    pair = [{"name": "ping", "ansible.builtin.ping": {}}, {"name": "info", "qemu.guest_agent.qga_info": info}]
    # The first of each builds the module's archive, which all later tasks of a playbook reuse.
    run = run_tasks(pair * (1 + ROUNDS))
    if run.status != 0:
        raise VmError(f"The playbook failed:\n{run.output}")
    ping, info_task = (
        median([record.seconds for record in run.tasks if record.task == name][1:]) for name in ("ping", "info")
    )
    say(f"{ROUNDS} tasks of each: ping {ping:.3f} s, qga_info {info_task:.3f} s")
    return InfoCost(ping, info_task)
