"""A callback plugin that writes each task's result and duration as a line of JSON, for tests.processes.ansible_run."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_records
type: notification
short_description: Writes each task's result and duration as a line of JSON
description: Writes to the file in the environment variable QGA_TASK_RECORDS.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_records"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[str, float] = {}

    def v2_runner_on_start(self, _host: Any, task: Any) -> None:
        self._started[task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._record(result, "ok")

    def v2_runner_on_failed(self, result: Any, **_options: Any) -> None:
        self._record(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._record(result, "unreachable")

    def _record(self, result: Any, outcome: str) -> None:
        task = result._task
        record = {
            "task": task.get_name(),
            "outcome": outcome,
            "seconds": time.monotonic() - self._started[task._uuid],
            "result": result._result,
        }
        with open(os.environ["QGA_TASK_RECORDS"], "a", encoding="utf-8") as records:
            records.write(json.dumps(record, default=str) + "\n")
