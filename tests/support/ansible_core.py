"""Code that depends on the version of ansible-core: passing arguments to a module, and trusting templates."""

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
    """Give a module its arguments in this process."""
    # Warnings are kept for the whole process, which elsewhere belongs to one module.
    warnings._global_warnings.clear()
    with contextlib.ExitStack() as patches:
        internal = sys.modules.get("ansible.module_utils._internal")
        if hasattr(internal, "is_controller"):
            # A real module never shares a process with the controller, to which ansible-core 2.19 passes its warnings;
            # with the tests of filters it does.
            patches.enter_context(mock.patch.object(internal, "is_controller", new=False))
        try:
            from ansible.module_utils.testing import patch_module_args
        except ImportError:  # ansible-core before 2.19
            encoded = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            patches.enter_context(mock.patch.object(basic, "_ANSIBLE_ARGS", encoded))
        else:
            patches.enter_context(patch_module_args(arguments))
        yield


def trusted(text: str) -> Any:
    """Return a text that Ansible evaluates as a template."""
    try:
        from ansible.template import trust_as_template
    except ImportError:  # before ansible-core 2.19, every text is trusted
        return text
    return trust_as_template(text)
