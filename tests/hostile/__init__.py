"""Malicious agents, and fake channels to them.

Behavior is separate from transport: ``agent``, ``payloads``, ``false_replies`` and ``attacks`` need only the fake
agent, the collection's protocol and the standard library, and run on Python 3.9. They are copied into a real guest,
where ``in_guest`` plays them on the agent's port. A ``worker`` is a process that runs the modules against them, and
``checks`` verifies the results.
"""
