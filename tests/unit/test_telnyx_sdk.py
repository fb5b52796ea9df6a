"""The SDK is loaded lean, and nobody can tell. Each in a process of its own, for what was imported stays imported."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


MADE = """
import asyncio, sys
from worker.telnyx.gateway import Gateway
async def make():
    gateway = Gateway("key", "http://127.0.0.1:9/v2", public_url=None)
    await gateway.retrieve("some-id")
    await gateway.aclose()
asyncio.run(make())
"""


def test_a_worker_that_only_sends_loads_no_resource_and_no_model() -> None:
    count = MADE + "print(sum(name.startswith(('telnyx.types.', 'telnyx.resources')) for name in sys.modules))"
    assert int(run(count)) < 10


def test_whoever_asks_for_a_model_or_a_resource_later_gets_it() -> None:
    asked = """
import telnyx, telnyx.types
from telnyx.types import MessageSendResponse, message_send_params
assert telnyx.types.MessageSendResponse is MessageSendResponse
assert message_send_params.__name__ == "telnyx.types.message_send_params"
assert hasattr(telnyx.types, "shared_params") and not hasattr(telnyx.types, "NoSuchModel")
assert telnyx.Telnyx(api_key="key").messages.send
print("all there")
"""
    assert run(MADE + asked) == "all there"


def test_the_package_is_the_same_whether_it_was_loaded_lean_or_not() -> None:
    names = "import telnyx.types; print(sorted(set(vars(telnyx.types)) - {'__builtins__', '__cached__'}))"
    load = "from worker.telnyx import sdk; sdk.load(); import telnyx.types; telnyx.types.MessageSendResponse\n"
    plain = "import telnyx\n"
    lean = set(eval(run(load + names)))
    whole = set(eval(run(plain + names)))
    assert {name for name in whole if not name.islower()} <= lean
