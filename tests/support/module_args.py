"""Give a module its arguments in this process, in the way that the running ansible-core has for it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from ansible.module_utils import basic
from ansible.module_utils.common import warnings


@contextlib.contextmanager
def module_args(arguments: dict[str, Any]) -> Iterator[None]:
    # Warnings are kept for the whole process, which is one module's everywhere but in tests.
    warnings._global_warnings.clear()
    with _as_on_a_target(), _given(arguments):
        yield


@contextlib.contextmanager
def _as_on_a_target() -> Iterator[None]:
    """A module is never in one process with the controller, to which ansible-core 2.19 would hand its warnings; the
    tests of filters are.
    """
    internal: Any = sys.modules.get("ansible.module_utils._internal")
    before = getattr(internal, "is_controller", None)
    if before is None:  # before 2.19
        yield
        return
    internal.is_controller = False
    try:
        yield
    finally:
        internal.is_controller = before


@contextlib.contextmanager
def _given(arguments: dict[str, Any]) -> Iterator[None]:
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core before 2.19
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before
    else:
        with patch_module_args(arguments):
            yield
