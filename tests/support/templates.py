"""Texts that Ansible takes for templates, on every version of it."""

from __future__ import annotations

from typing import Any


def trusted(text: str) -> Any:
    try:
        from ansible.template import trust_as_template
    except ImportError:  # before ansible-core 2.19, every text is one
        return text
    return trust_as_template(text)
