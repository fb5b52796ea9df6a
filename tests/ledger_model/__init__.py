"""A small model of the ledger's rules that knows no Lua, and what drives both with random commands.

The model says for each message which states a command may lead to, and each step compares; then the whole namespace is
read and what must always hold is checked: each message in exactly one place, nothing without a way on, counts and holders
exact, no script that stumbled. At the end all processes are healthy again, and everything must become final and, after the
retention, leave nothing behind.

What it leaves out: messages that the provider holds for later. They have no step here; every order of what can happen to one is
tried in ``tests/integration/test_provider_schedules.py``.

``machine`` is for hypothesis, which shrinks what it finds; ``walk`` goes millions of steps.
"""
