"""Malicious agents, and what stands in for a channel to them.

What an agent does is apart from how it is carried: ``agent``, ``payloads``, ``false_replies`` and ``attacks`` need
nothing but the fake agent, the collection's protocol and the standard library, and run on Python 3.9. They are shipped
into a real guest, where ``in_guest`` plays them on the agent's port. A ``worker`` is a process that runs the modules
against them, and ``checks`` are of what they return.
"""
