#!/usr/bin/python
# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qga_update_time
short_description: Correct the clocks of QEMU guests through their guest agents
version_added: 1.0.0
description:
  - Measures the offset of a guest's clock, steps the clock if the offset exceeds O(tolerance), and measures again to
    verify the result.
  - With O(backward=slew), a clock that is ahead by up to half a second is slewed instead.
  - A guest that was paused, saved, reverted to a snapshot or migrated resumes with the time at which it stopped.
  - A domain whose metadata has C(<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>) is never touched.
  - Works with the agent of any distribution, and more accurately with the extended agent of this collection.
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - qemu.guest_agent.target
  - qemu.guest_agent.target.attributes
options:
  tolerance:
    description:
      - Offsets up to this many seconds are left alone. A clock that is stepped is always set as accurately as possible.
      - A guest fails if its clock cannot be proven to be within the tolerance afterwards, for example because its agent
        takes longer than that to reply.
      - With V(0), the clock is stepped every time, and a residual below its uncertainty is accepted.
    type: float
    default: 0.1
  utc_offset:
    description:
      - Seconds to add to the reference, for guests whose system clock must differ from UTC.
    type: float
    default: 0
  attempts:
    description:
      - Maximum number of steps before the task gives up.
    type: int
    default: 3
  samples:
    description:
      - Maximum number of exchanges with the agent for one measurement. A measurement ends earlier if more exchanges no
        longer improve it.
    type: int
    default: 16
  backward:
    description:
      - How a clock that is ahead may be set back. The rule is checked before every step, so it also applies after a
        step that went too far. A clock that is behind is always stepped, which ends a slew.
      - V(step) steps it.
      - V(slew) has the guest's kernel slow the clock down by 500 ppm, so that time never runs backward. A slew of 0.2 s
        takes 400 s. It needs the extended agent, a clock that is provably ahead by at most half a second, and no time
        service that disciplines the clock. Otherwise the clock is left alone with a warning that gives the reason.
      - V(leave) leaves it alone with a warning.
      - Only V(step) can be combined with O(method=rtc).
    type: str
    choices: [step, slew, leave]
    default: step
  require_synchronized_host:
    description:
      - Fail if the host's kernel does not report its own clock as synchronized. By default this is a warning.
    type: bool
    default: false
  method:
    description:
      - How to step the clock.
      - V(extended) has the extended agent add the offset to the clock, so the transit time of the request does not
        matter.
      - V(set_time) has the agent set the host's time, corrected by the measured transit time.
      - V(rtc) has the guest read its hardware clock, as C(virsh domtime --sync) does. That clock has whole seconds, so
        raise O(tolerance) to 1 or more.
      - V(auto) is V(extended) if the agent has it, otherwise V(set_time).
    type: str
    choices: [auto, extended, set_time, rtc]
    default: auto
  time:
    description:
      - A time to use instead of the host's, as ISO 8601 with a time zone or as seconds since 1970.
      - It is the time at which the module starts, and advances while the module runs.
    type: str
  update_rtc:
    description:
      - With O(method=extended), also write the time to the guest's hardware clock. A slew does not do this.
      - The stock agent always does so.
    type: bool
    default: false
attributes:
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A clock within O(tolerance) is left alone, and so is one whose slew will bring it there. With O(tolerance=0) it
        is stepped every time. With O(time) it is stepped again once more than O(tolerance) has passed.
notes:
  - A guest reports its own clock, and may report anything. The guide on measuring lists what a guest can make this
    module claim, and what it cannot.
seealso:
  - module: qemu.guest_agent.qga_info
  - plugin: qemu.guest_agent.fleet_report_html
    plugin_type: filter
    description: Makes a web page of the results of many guests.
  - name: Role resync_on_resume
    description: Runs a service that corrects the clocks of guests whenever they are resumed.
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/roles/resync_on_resume/README.md
  - name: Role extended_agent
    description: Deploys the extended agent into a guest, for O(method=extended).
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/roles/extended_agent/README.md
  - name: How a clock is measured
    description: How the offset and its uncertainty are computed, and what they prove.
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/docs/docsite/rst/measuring.rst
  - name: Fleets
    description: All guests of many hypervisors in one run.
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/docs/docsite/rst/fleets.rst
"""

EXAMPLES = r"""
- name: Correct the clock of a guest after a restore
  qemu.guest_agent.qga_update_time:
    domain: web1
    wait_timeout: 60

- name: Allow ten milliseconds, and only if the clock of this host is synchronized
  qemu.guest_agent.qga_update_time:
    domain: 1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b
    tolerance: 0.01
    require_synchronized_host: true

- name: Correct the clock of a guest without libvirt
  qemu.guest_agent.qga_update_time:
    socket: /var/run/qemu-server/100.qga

- name: Step the clock of a database forward only, and slew it back if it is ahead
  qemu.guest_agent.qga_update_time:
    domain: db1
    backward: slew

- name: Correct the clocks of all guests of this hypervisor except the databases
  qemu.guest_agent.qga_update_time:
    domains: ["*", "!db*"]
    wait_timeout: 60
    fail_on: none
  register: fleet

- name: Do the same on Proxmox VE
  qemu.guest_agent.qga_update_time:
    sockets: [/var/run/qemu-server/*.qga]
"""

RETURN = r"""
msg:
  description:
    - A sentence about the guest; with O(domains) or O(sockets), the number of guests by status.
    - If the task failed, the error with its code and hint.
  returned: always
  type: str
  sample: web1 was 8.797 s behind; its clock is now right to +1.1 ms ±1.1 ms
host_clock:
  description: The clock that guests are compared with, which is that of the machine where the module runs.
  returned: without O(time)
  type: dict
  contains:
    synchronized:
      description: Whether the kernel reports the clock as synchronized; V(null) if the kernel does not report this.
      type: bool
      sample: true
    max_error:
      description: The maximum error that the kernel reports, in seconds; V(null) if it does not report one.
      type: float
      sample: 0.0115
    max_error_ns:
      description: RV(host_clock.max_error) in nanoseconds; V(null) if the kernel does not report one.
      type: int
      sample: 11500000
    source:
      description:
        - The time service that runs on the machine, V(chronyd), V(ntpd), V(phc2sys) or V(systemd-timesyncd).
        - V(null) if it is another one, or none.
      type: str
      sample: chronyd
guest:
  description: The result of the guest.
  returned: with O(domain), O(socket), O(address) or O(vsock)
  type: dict
  contains: &guest
    name:
      description: The name of the domain; without libvirt, the socket or address of the guest.
      type: str
      returned: always
      sample: web1
    uuid:
      description: The domain's UUID.
      type: str
      returned: with O(domains), if the domain exists
      sample: 865f09bb-cb14-4026-9cb5-1dc38a71b8b9
    vm_name:
      description: The name of a virtual machine that was addressed by its socket.
      type: str
      returned: if it is known
      sample: web1
    vm_name_from:
      description:
        - The origin of RV(guest.vm_name). V(node) is the configuration of a Proxmox VE node.
        - With O(sockets), V(agent) is the host name that the agent reports. A guest may report any name.
      type: str
      returned: with RV(guest.vm_name)
      sample: node
    status:
      description:
        - V(corrected) if the clock was stepped; V(would_correct) in check mode, if it would be stepped or slewed.
        - V(unchanged) if it was within O(tolerance), or was ahead and O(backward) left it alone.
        - V(slewing) if it is being slewed and is not within O(tolerance) yet.
        - V(skipped) if the guest could not be used, and a pattern selected it or O(skip_unusable) is true.
        - V(failed) in all other cases.
      type: str
      returned: always
      sample: corrected
    reason:
      description: Why the guest was skipped, in the form of RV(guest.error).
      type: dict
      returned: if it was skipped
      sample: {"code": "not_running", "message": "domain 'web2' at qemu:///system is shut off",
               "hint": "Run `virsh start web2` first; an agent answers only while its guest runs."}
    warnings:
      description: Warnings about the guest.
      type: list
      elements: str
      returned: if there are any
      sample: ["the host's clock was stepped by -250.0 ms during the run; its new time counts"]
    changed:
      description: Whether its clock was stepped or a slew was begun, or would have been in check mode.
      type: bool
      returned: if its clock was measured
      sample: true
    within_tolerance:
      description:
        - Whether its clock is proven to be within O(tolerance) at the end.
        - V(null) if this can be neither proven nor disproven. Then the guest has failed, except with O(tolerance=0) and
          in check mode.
        - V(false) also if an error kept the clock from being measured after a step.
        - A guest whose clock is being slewed into O(tolerance) has not failed.
      type: bool
      returned: if its clock was measured
      sample: true
    method:
      description: How the clock was stepped or slewed, or would be in check mode; V(null) if it was neither.
      type: str
      returned: if its clock was measured
      sample: set_time
    attempts:
      description: Number of steps and slews that were tried.
      type: int
      returned: if its clock was measured
      sample: 2
    offset_before:
      description: Guest clock minus reference before any step, in seconds. Negative if the guest was behind.
      type: float
      returned: if its clock was measured
      sample: -8.79732272
    offset_before_ns:
      description: RV(guest.offset_before) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: -8797322720
    uncertainty_before:
      description: The true offset was within this many seconds of RV(guest.offset_before).
      type: float
      returned: if its clock was measured
      sample: 0.001054192
    uncertainty_before_ns:
      description: RV(guest.uncertainty_before) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 1054192
    offset_after:
      description: The residual, measured after the last step, in seconds; V(null) without a step.
      type: float
      returned: if its clock was measured
      sample: 0.001098438
    offset_after_ns:
      description: RV(guest.offset_after) in nanoseconds; V(null) without a step.
      type: int
      returned: if its clock was measured
      sample: 1098438
    uncertainty_after:
      description: The true offset was within this many seconds of RV(guest.offset_after); V(null) without a step.
      type: float
      returned: if its clock was measured
      sample: 0.001136352
    uncertainty_after_ns:
      description: RV(guest.uncertainty_after) in nanoseconds; V(null) without a step.
      type: int
      returned: if its clock was measured
      sample: 1136352
    offset:
      description: The last measured offset, whether or not the clock was stepped, in seconds.
      type: float
      returned: if its clock was measured
      sample: 0.001098438
    offset_ns:
      description: RV(guest.offset) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 1098438
    uncertainty:
      description: The true offset was within this many seconds of RV(guest.offset).
      type: float
      returned: if its clock was measured
      sample: 0.001136352
    uncertainty_ns:
      description: RV(guest.uncertainty) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 1136352
    round_trip:
      description: The shortest round trip of the last measurement, in seconds.
      type: float
      returned: if its clock was measured
      sample: 0.00289454
    round_trip_ns:
      description: RV(guest.round_trip) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 2894540
    resolution:
      description: The resolution at which the guest's clock could be read, in seconds.
      type: float
      returned: if its clock was measured
      sample: 0.000001
    resolution_ns:
      description: RV(guest.resolution) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 1000
    guest_time_before:
      description: The time that the guest's clock would show at the end without any step, as ISO 8601 in UTC.
      type: str
      returned: if its clock was measured
      sample: "2026-11-24T18:07:00.048960004Z"
    guest_time_before_ns:
      description: RV(guest.guest_time_before) in nanoseconds since 1970.
      type: int
      returned: if its clock was measured
      sample: 1795543620048960004
    guest_time_after:
      description: The time that the guest's clock shows at the end, or would in check mode, as ISO 8601 in UTC.
      type: str
      returned: if its clock was measured
      sample: "2026-11-24T18:07:08.847381152Z"
    guest_time_after_ns:
      description: RV(guest.guest_time_after) in nanoseconds since 1970.
      type: int
      returned: if its clock was measured
      sample: 1795543628847381152
    duration:
      description: How long the guest took in total, in seconds.
      type: float
      returned: if its clock was measured
      sample: 3.511898741
    duration_ns:
      description: RV(guest.duration) in nanoseconds.
      type: int
      returned: if its clock was measured
      sample: 3511898741
    slewing:
      description: The slew of its clock that is left at the end, or planned in check mode; V(null) without a slew.
      type: dict
      returned: if its clock was measured
      contains:
        left:
          description: Seconds still to be added to the clock. Negative if the clock is being slewed back.
          type: float
          sample: -0.2
        left_ns:
          description: RV(guest.slewing.left) in nanoseconds.
          type: int
          sample: -200000000
        duration:
          description: How long that takes, in seconds.
          type: float
          sample: 400.0
        duration_ns:
          description: RV(guest.slewing.duration) in nanoseconds.
          type: int
          sample: 400000000000
    error:
      description: Why the guest failed.
      type: dict
      returned: if it failed
      contains:
        code:
          description: One of the documented codes, for conditions in playbooks.
          type: str
          sample: not_running
        message:
          description: What was wrong, and where.
          type: str
          sample: domain 'web2' at qemu:///system is shut off
        hint:
          description: What to do about it.
          type: str
          sample: Run `virsh start web2` first; an agent answers only while its guest runs.
guests:
  description: The results of the guests, in the order in which they were named.
  returned: with O(domains) or O(sockets), if the guests could be listed
  type: list
  elements: dict
  contains: *guest
summary:
  description: Number of guests by status, and the largest offsets.
  returned: with O(domains) or O(sockets), if the guests could be listed
  type: dict
  contains:
    total:
      description: All guests.
      type: int
      sample: 2
    corrected:
      description: Guests whose clock was stepped.
      type: int
      sample: 1
    would_correct:
      description: Guests whose clock would have been stepped or slewed without check mode.
      type: int
      sample: 0
    unchanged:
      description: Guests whose clock was within O(tolerance), or was ahead and left alone.
      type: int
      sample: 0
    slewing:
      description: Guests whose clock is being slewed and is not within O(tolerance) yet.
      type: int
      sample: 0
    skipped:
      description: Guests that were skipped.
      type: int
      sample: 1
    failed:
      description: Guests that failed. A clock that cannot be proven to be within O(tolerance) is a failure.
      type: int
      sample: 0
    beyond_tolerance:
      description: Guests that did not fail, and whose clock was left beyond O(tolerance) as O(backward) requires.
      type: int
      sample: 0
    largest_offset_before:
      description: The RV(guests[].offset_before) furthest from zero, in seconds; V(null) if there is none.
      type: float
      sample: -8.79732272
    largest_offset_before_ns:
      description: RV(summary.largest_offset_before) in nanoseconds; V(null) if there is none.
      type: int
      sample: -8797322720
    largest_offset_after:
      description: The RV(guests[].offset_after) furthest from zero, in seconds; V(null) if there is none.
      type: float
      sample: 0.001098438
    largest_offset_after_ns:
      description: RV(summary.largest_offset_after) in nanoseconds; V(null) if there is none.
      type: int
      sample: 1098438
    duration:
      description: How long the task took for all guests, in seconds.
      type: float
      sample: 3.761808827
    duration_ns:
      description: RV(summary.duration) in nanoseconds.
      type: int
      sample: 3761808827
error:
  description: Why the task failed, if this is not the error of its only guest.
  returned: if an option is wrong, no guest can be listed, or O(fail_on) fails the task
  type: dict
  sample:
    code: guests_failed
    message: "1 of 2 guests failed: web2 (not_running)"
    hint: Each guest's entry in guests has its error and a hint; fail_on decides when that fails the task.
"""

from typing import Any, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.options import (
    reference_of,
    require_consistent,
    resync_options,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import (
    CORRECTED,
    STATUSES,
    UNCHANGED,
    ResyncReport,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.resync import resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.timestamps import format_instant
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult, Work
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.vm_names import with_claimed_name
from ansible_collections.qemu.guest_agent.plugins.module_utils._module import TARGET_SPEC, run
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import CLOCK_REPLIES

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **TARGET_SPEC,
    "tolerance": {"type": "float", "default": 0.1},
    "utc_offset": {"type": "float", "default": 0.0},
    "attempts": {"type": "int", "default": 3},
    "samples": {"type": "int", "default": 16},
    "backward": {"type": "str", "choices": ["step", "slew", "leave"], "default": "step"},
    "require_synchronized_host": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["auto", "extended", "set_time", "rtc"], "default": "auto"},
    "time": {"type": "str"},
    "update_rtc": {"type": "bool", "default": False},
}


def result_of(report: ResyncReport) -> GuestResult:
    return GuestResult(
        entry=report.as_dict(),
        status=report.status,
        changed=report.changed,
        diff={
            "before": f"{format_instant(report.guest_time_before_ns)}\n",
            "after": f"{format_instant(report.guest_time_after_ns)}\n",
        },
        sentence=report.sentence,
        warnings=report.warnings,
        error=report.error,
    )


def summarize(results: Sequence[GuestResult]) -> dict[str, int | None]:
    """Return the number of clocks that were left wrong, and the offsets that are furthest from zero, with their signs;
    None if no guest has one.
    """
    left_alone = [each for each in results if each.status in (CORRECTED, UNCHANGED)]
    beyond = sum(each.entry.get("within_tolerance") is False for each in left_alone)
    summary: dict[str, int | None] = {"beyond_tolerance": beyond}
    for figure in ("offset_before_ns", "offset_after_ns"):
        values = [value for each in results if (value := each.entry.get(figure)) is not None]
        summary[f"largest_{figure}"] = max(values, key=abs, default=None)
    return summary


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def prepare(params: Mapping[str, Any]) -> Work:
        require_consistent(params)
        chosen = reference_of(params)
        options = resync_options(params, module.check_mode)
        if chosen.warning is not None:
            module.warn(chosen.warning)

        async def work(agent: GuestAgent) -> GuestResult:
            return result_of(await resync(agent, chosen.reference, options))

        return work if params["sockets"] is None else with_claimed_name(work)

    run(module, prepare, STATUSES, CLOCK_REPLIES, summarize, touches_clock=True)


if __name__ == "__main__":
    main()
