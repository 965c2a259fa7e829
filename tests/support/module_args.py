"""Give a module its arguments in this process, in the way that the running ansible-core has for it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from ansible.module_utils import basic
from ansible.module_utils.common import warnings


@contextlib.contextmanager
def module_args(arguments: dict[str, Any]) -> Iterator[None]:
    # Warnings are kept for the whole process, which is one module's everywhere but in tests.
    warnings._global_warnings.clear()
    with contextlib.ExitStack() as patches:
        internal = sys.modules.get("ansible.module_utils._internal")
        if hasattr(internal, "is_controller"):
            # A module is never in one process with the controller, to which ansible-core 2.19 would hand its warnings;
            # the tests of filters are.
            patches.enter_context(mock.patch.object(internal, "is_controller", new=False))
        try:
            from ansible.module_utils.testing import patch_module_args
        except ImportError:  # ansible-core before 2.19
            encoded = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            patches.enter_context(mock.patch.object(basic, "_ANSIBLE_ARGS", encoded))
        else:
            patches.enter_context(patch_module_args(arguments))
        yield
