"""A stand-in for Telnyx over real HTTP: for the demo, tests, benchmarks and staging.

It keeps a record of what it received, so that a test can ask who was texted twice. Nothing here reaches a phone.
"""

from __future__ import annotations

from worker.sandbox.app import create_app
from worker.sandbox.options import Faults, OptionError, SandboxOptions
from worker.sandbox.recipients import SCRIPTS, magic_number
from worker.sandbox.server import RunningSandbox, run, running_sandbox

__all__ = [
    "SCRIPTS",
    "Faults",
    "OptionError",
    "RunningSandbox",
    "SandboxOptions",
    "create_app",
    "magic_number",
    "run",
    "running_sandbox",
]
