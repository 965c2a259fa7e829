"""What goes wrong with test guests."""

from __future__ import annotations


class VmError(Exception):
    """One sentence for a person: what failed, and what to do about it."""
