"""Fuzzing: bytes of anybody's making through all that reads bytes, for as long as is wanted.

``python -m tests.fuzz --seconds 600``. What is tried is in ``targets``, by what in ``engines``, beginning with what in
``corpus``.
"""
