#!/usr/bin/python
# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qga_update_time
short_description: Set the clocks of QEMU guests right through their guest agents
version_added: 1.0.0
description:
  - Measures how far a guest's clock is off, steps it if that is more than O(tolerance), and measures again to prove it.
  - With O(backward=slew), a clock that is ahead by up to half a second is slewed in place of that.
  - A guest that was paused, saved, snapshotted or migrated wakes with the clock it went to sleep with.
  - A domain whose metadata has C(<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>) is never touched.
  - Works with the agent that every distribution ships, and better with the extended agent of this collection.
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - qemu.guest_agent.target
  - qemu.guest_agent.target.attributes
options:
  tolerance:
    description:
      - The largest offset, in seconds, that is left alone. A clock that is stepped is set as near as can be, whatever
        the tolerance.
      - A guest has failed if its clock is not proven to be within it afterwards, for instance because answers of its
        agent take longer than that.
      - With V(0) the clock is stepped every time, and a residual below its uncertainty is no failure.
    type: float
    default: 0.1
  utc_offset:
    description:
      - Seconds to add to the reference, for a guest whose system clock is meant to differ from UTC.
    type: float
    default: 0
  attempts:
    description:
      - How often to step the clock at most, until the measurement behind it is good.
    type: int
    default: 3
  samples:
    description:
      - The most exchanges with the agent for one measurement. It ends before when more of them no longer tell more.
    type: int
    default: 16
  backward:
    description:
      - How a clock that is ahead may go back. This is checked before every step, so it also holds for a guest that a
        step took too far. A clock that is late is always stepped, and that ends a slew.
      - V(step) steps it.
      - V(slew) has the guest's kernel slow the clock down by 500 ppm, so that it glides back and never runs backward.
        That takes 400 s for 0.2 s. It needs the extended agent, a clock that is certainly ahead by at most half a
        second, and no time service that disciplines the clock. Otherwise the clock is left alone with a warning that
        has the reason; it is never stepped back.
      - V(leave) leaves it alone with a warning.
      - Only V(step) can be combined with O(method=rtc).
    type: str
    choices: [step, slew, leave]
    default: step
  require_synchronized_host:
    description:
      - Fail if the kernel does not say that the host's own clock is synchronised. Otherwise this is a warning.
    type: bool
    default: false
  method:
    description:
      - How to step the clock.
      - V(extended) has the extended agent add the offset to its clock, which needs no transit time to be known.
      - V(set_time) has the agent set the host's time, stamped at the last moment and corrected by the transit time.
      - V(rtc) has the guest take its own hardware clock's time, as C(virsh domtime --sync) does. It is kept in whole
        seconds, so raise O(tolerance) to 1 or more.
      - V(auto) is V(extended) if the agent has it, else V(set_time).
    type: str
    choices: [auto, extended, set_time, rtc]
    default: auto
  time:
    description:
      - A time to use in place of the host's, as ISO 8601 with a zone or as seconds since 1970.
      - It is taken as the time at which the module starts, and runs on while the module works.
    type: str
  update_rtc:
    description:
      - With O(method=extended), also write the time to the guest's hardware clock. That is not done with a slew.
      - The stock agent always does so.
    type: bool
    default: false
attributes:
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A clock that is within O(tolerance) is left alone, and so is one that is being slewed and will be within it.
        With O(tolerance=0) it is stepped every time; with O(time), whenever more than O(tolerance) has gone by since.
notes:
  - A guest is taken at its word about its own clock. What it can make this module claim, and what it cannot, is in the
    guide on measuring.
seealso:
  - module: qemu.guest_agent.qga_info
  - ref: ansible_collections.qemu.guest_agent.resync_on_resume_role
    description: The role that does the same by itself whenever a guest is resumed.
  - ref: ansible_collections.qemu.guest_agent.extended_agent_role
    description: The role that puts the extended agent into a guest, for O(method=extended).
  - plugin: qemu.guest_agent.fleet_report_html
    plugin_type: filter
    description: Makes a page of what was done with many guests.
  - ref: ansible_collections.qemu.guest_agent.docsite.measuring
    description: How the offset and its uncertainty are found, and what they prove.
  - ref: ansible_collections.qemu.guest_agent.docsite.fleets
    description: All guests of a hypervisor in one task.
"""

EXAMPLES = r"""
- name: Set the clock of a guest right after a restore
  qemu.guest_agent.qga_update_time:
    domain: web1
    wait_timeout: 60

- name: Allow ten milliseconds, and only if this host knows the time itself
  qemu.guest_agent.qga_update_time:
    domain: 1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b
    tolerance: 0.01
    require_synchronized_host: true

- name: Set the clock of a guest without libvirt
  qemu.guest_agent.qga_update_time:
    socket: /var/run/qemu-server/100.qga

- name: Let the clock of a database glide back if it is ahead, and step it only forward
  qemu.guest_agent.qga_update_time:
    domain: db1
    backward: slew

- name: Set the clocks of all guests of this hypervisor but the databases
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
guests:
  description: One entry for each guest that was addressed, in the order in which they were named.
  returned: when a guest could be named
  type: list
  elements: dict
  contains: &guest
    name:
      description: The guest, as it was addressed; a domain of many by its name.
      type: str
      returned: always
      sample: web1
    uuid:
      description: The domain's UUID.
      type: str
      returned: when it was addressed by O(domains) and exists
      sample: 865f09bb-cb14-4026-9cb5-1dc38a71b8b9
    status:
      description: What came of the guest in one word, V(corrected), V(unchanged), V(slewing), V(skipped) or V(failed).
      type: str
      returned: always
      sample: corrected
    reason:
      description: Why the guest was skipped; the same as RV(guests[].error) of one that failed.
      type: dict
      returned: when it was skipped
      sample: {"code": "not_running", "message": "domain web2 at qemu:///system is shut off",
               "hint": "Run `virsh start web2` first; an agent answers only while its guest runs."}
    warnings:
      description: What is to be said of the guest besides.
      type: list
      elements: str
      returned: when there is any
      sample: ["the host's clock was stepped by -0.250013 s meanwhile; its new time counts"]
    changed:
      description: Whether its clock was stepped or a slew was begun, or that would have been done in check mode.
      type: bool
      returned: when its clock was measured
      sample: true
    within_tolerance:
      description:
        - Whether its clock is proven to be within O(tolerance) at the end.
        - V(null) if it is proven neither that it is nor that it is not; except with O(tolerance=0) and in check mode,
          the guest has failed then.
        - V(false) also if an error kept the clock from being measured after a step.
        - A clock that is being slewed, and will be within O(tolerance) at the end of that, has not failed.
      type: bool
      returned: when its clock was measured
      sample: true
    method:
      description: How the clock was stepped, or would be in check mode; V(null) if there was nothing to do.
      type: str
      returned: when its clock was measured
      sample: set_time
    attempts:
      description: How often the clock was stepped or a slew was begun.
      type: int
      returned: when its clock was measured
      sample: 2
    offset_before_ns:
      description: Guest clock minus reference as it was found, in nanoseconds. Negative if the guest was behind.
      type: int
      returned: when its clock was measured
      sample: -8797322720
    uncertainty_before_ns:
      description: The true value of RV(guests[].offset_before_ns) was no further off than this, in nanoseconds.
      type: int
      returned: when its clock was measured
      sample: 1054192
    offset_after_ns:
      description: The residual in nanoseconds, measured after the last step; V(null) if there was none.
      type: int
      returned: when its clock was measured
      sample: 1098438
    uncertainty_after_ns:
      description:
        - The true value of RV(guests[].offset_after_ns) is no further off than this, in nanoseconds; V(null) if there
          is none.
      type: int
      returned: when its clock was measured
      sample: 1136352
    round_trip_ns:
      description: The shortest round trip of the last measurement, in nanoseconds.
      type: int
      returned: when its clock was measured
      sample: 2894540
    resolution_ns:
      description: The steps in which the guest's clock could be read, in nanoseconds.
      type: int
      returned: when its clock was measured
      sample: 1000
    slewing:
      description:
        - What is left of a slew of its clock at the end, or would be in check mode; V(null) without one.
        - The C(msg) of the task says it in a sentence.
      type: dict
      returned: when its clock was measured
      contains:
        left:
          description: What is still to be added to the clock, in seconds. Negative if it glides back.
          type: float
          sample: -0.2
        left_ns:
          description: RV(guests[].slewing.left) in nanoseconds.
          type: int
          sample: -200000000
        duration:
          description: How long that takes, in seconds.
          type: float
          sample: 400.0
        duration_ns:
          description: RV(guests[].slewing.duration) in nanoseconds.
          type: int
          sample: 400000000000
    guest_time_before_ns:
      description: What the guest's clock would show at the end had nothing been done, in nanoseconds since 1970.
      type: int
      returned: when its clock was measured
      sample: 1795543620048960004
    guest_time_after_ns:
      description: What the guest's clock shows at the end, or would in check mode, in nanoseconds since 1970.
      type: int
      returned: when its clock was measured
      sample: 1795543628847381152
    duration_ns:
      description: How long it all took, in nanoseconds.
      type: int
      returned: when its clock was measured
      sample: 3511898741
    error:
      description: Why the guest failed.
      type: dict
      returned: when it failed
      contains:
        code:
          description: One of the documented codes, to be tested by playbooks.
          type: str
          sample: not_running
        message:
          description: What was wrong, and where.
          type: str
          sample: domain web2 at qemu:///system is shut off
        hint:
          description: What to do about it.
          type: str
          sample: Run `virsh start web2` first; an agent answers only while its guest runs.
guest:
  description: The one entry of RV(guests), when exactly one guest was addressed.
  returned: when exactly one guest was addressed
  type: dict
  contains: *guest
summary:
  description: How many guests came to what.
  returned: with O(domains) or O(sockets)
  type: dict
  contains:
    total:
      description: All that were addressed.
      type: int
      sample: 2
    corrected:
      description: Guests whose clock was stepped, or would have been in check mode.
      type: int
      sample: 1
    unchanged:
      description: Guests whose clock was within O(tolerance), or ahead and not to be stepped back.
      type: int
      sample: 0
    slewing:
      description: Guests whose clock is being slewed and not within O(tolerance) yet, or would be in check mode.
      type: int
      sample: 0
    largest_offset_before_ns:
      description: The offset that was furthest from zero before, with its sign; V(null) if none was measured.
      type: int
      sample: -8797322720
    largest_offset_after_ns:
      description: The residual that is furthest from zero, with its sign; V(null) if none was measured.
      type: int
      sample: 1098438
    skipped:
      description: Guests that could not be used, and need not have been.
      type: int
      sample: 1
    failed:
      description: Guests that failed, those whose clock is not proven to be within O(tolerance) among them.
      type: int
      sample: 0
    duration_ns:
      description: How long it all took, in nanoseconds.
      type: int
      sample: 3761808827
error:
  description: Why the task failed. Of one guest, the same as in its entry; of many, how many failed and which.
  returned: on failure
  type: dict
  sample:
    code: guests_failed
    message: "1 of 2 guests failed: web2 (not_running)"
    hint: Each guest's entry in guests tells its reason and what to do; fail_on says when that fails the task.
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
    SLEWING,
    UNCHANGED,
    ResyncReport,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.resync import resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.timestamps import format_instant
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult, Work
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
        message=report.message,
        warnings=report.warnings,
        error=report.error,
    )


def summarize(results: Sequence[GuestResult]) -> dict[str, int | None]:
    """The values that are furthest from zero, with their signs; None if no guest has one."""
    summary = {}
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

        return work

    run(module, prepare, (CORRECTED, UNCHANGED, SLEWING), CLOCK_REPLIES, summarize, touches_clock=True)


if __name__ == "__main__":
    main()
