"""Fuzzing: arbitrary bytes for all code that reads a peer's bytes, for a given time.

``python -m tests.fuzz --seconds 600``. ``targets`` has the functions under test, ``engines`` makes inputs, and
``corpus`` has the first inputs.
"""
