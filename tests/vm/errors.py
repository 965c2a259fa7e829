"""Errors of test guests."""

from __future__ import annotations


class VmError(Exception):
    """The message is one sentence: what failed, and how to fix it."""
