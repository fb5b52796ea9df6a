"""What the sandbox is started with, and the faults that can be changed while it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.sandbox.refusals import knows

DAY_S = 86_400.0

SHARES = (
    "cut_after_accept",
    "500_after_accept",
    "500_before",
    "429",
    "hang_20s",
    "lose_receipts",
    "lose_first_receipts",
    "duplicate_receipts",
    "reorder_receipts",
    "api_500",
    "api_429",
    "api_cut",
    "api_cut_after",
)
"""Faults given as a share of requests (or of receipts), from 0 to 1. ``api_*`` are for all that sends nothing."""
_MILLISECONDS = ("latency_ms", "latency_jitter_ms")
_SWITCHES = {"honour_keys": True, "down": False}


class OptionError(ValueError):
    """An option or a fault has a value that the sandbox cannot use; the text names it, its value and a right one."""


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """Everything that a sandbox is started with. Durations in seconds, rates in segments per second.

    ``api_key`` None accepts any key that is not empty. ``key_file`` holds the seed of the signing key (base64 of 32
    bytes) and is written if it is missing, so that the public key outlives a restart.
    """

    api_key: str | None = None
    key_file: str | None = None
    signing_seed: bytes | None = field(default=None, repr=False)
    seed: int = 0  # of every random choice, so that a run can be repeated
    magic: bool = True  # magic recipients; off for load tests over arbitrary numbers
    keep: int = 200_000  # messages in memory; the oldest leave first

    sent_delay_s: float = 0.05
    final_delay_s: float = 0.15
    delay_jitter: float = 0.3  # as a share of the delay
    slow_s: float = 3.0  # the magic slow answer
    hang_s: float = 20.0  # the magic and the faulty hang: longer than any sane client waits
    late_s: float = 3.0  # the magic late verdict
    silent_s: float = 2.0  # when a silent message shows as delivered to those who ask

    default_rate: float | None = None  # None: senders without a rate of their own are not queued
    sender_rates: Mapping[str, float] = field(default_factory=dict)  # by `from`, or by profile for a pool
    queue_s: float = 14_400.0  # how long a queue may get before 40318: Telnyx holds four hours
    account_rate: float | None = None  # requests per second over all senders before 429
    retry_after_s: int = 1  # what a 429 says in Retry-After

    callback_timeout_s: float = 2.0
    callback_attempts: int = 3  # per URL
    callback_backoff_s: float = 0.5  # doubled after each attempt
    callback_limit: int = 200  # callbacks under way at once
    profile_webhook_url: str | None = None  # tried after the message's own URLs
    inbound_webhook: str | None = None  # where inbound messages go if nothing better is known
    group_receipts: str = "member"  # or "all": every finalized event of a group lists all members

    schedule_min_s: float = 300.0
    schedule_max_s: float = 5 * DAY_S
    cancel_margin_s: float = 60.0
    keys_kept_s: float = DAY_S

    numbers: tuple[str, ...] = (*(f"+1312555{n:04d}" for n in range(1, 11)), "+18005550100", "12345")
    mobile_numbers: tuple[str, ...] = ("+13125550011", "+13125550012")
    sender_profiles: Mapping[str, str] = field(default_factory=dict)
    sender_errors: Mapping[str, str] = field(default_factory=dict)  # sender or profile → code that refuses its sends
    number_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # number → fields of its row
    number_errors: Mapping[str, str] = field(default_factory=dict)  # number → code that its settings are refused with
    profiles: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # id → fields; given, they are all there are
    balance_usd: float = 100.0
    bulk_step: int = 0  # numbers that each look at a bulk order settles; 0: all of them after a moment
    faults: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise OptionError(f"keep must be at least 1 message, got {self.keep}: write keep=200000")
        if self.group_receipts not in ("member", "all"):
            raise OptionError(f'group_receipts must be "member" or "all", got {self.group_receipts!r}')
        for name, rate in [("default_rate", self.default_rate), *self.sender_rates.items()]:
            if rate is not None and not rate > 0:
                raise OptionError(f"the rate of {name} must be above 0 segments per second, got {rate}")
        for sender, code in self.sender_errors.items():
            if not knows(code):
                raise OptionError(
                    f'sender_errors.{sender} must be a code that Telnyx refuses with, got {code!r}: "40315"'
                )
        for number, code in self.number_errors.items():
            if not knows(code):
                raise OptionError(
                    f'number_errors.{number} must be a code that Telnyx refuses with, got {code!r}: "10038"'
                )
        if self.bulk_step < 0:
            raise OptionError(f"bulk_step must be 0 or more numbers, got {self.bulk_step}: write bulk_step=500")
        Faults().update({name: value for name, value in self.faults.items() if name != "seed"})


@dataclass
class Faults:
    """What goes wrong now. ``shares`` are probabilities; each is drawn on its own, from a seeded source."""

    shares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SHARES, 0.0))
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    honour_keys: bool = True
    down: bool = False

    def update(self, changes: Mapping[str, object]) -> None:
        """Apply ``changes`` whole, or raise ``OptionError`` and change nothing."""
        shares, others = dict(self.shares), {}
        for name, value in changes.items():
            if name in SHARES:
                shares[name] = _number(name, value, most=1.0)
            elif name in _MILLISECONDS:
                others[name] = _number(name, value, most=3_600_000.0)
            elif name in _SWITCHES:
                if not isinstance(value, bool):
                    raise OptionError(f"{name} must be true or false, got {value!r}")
                others[name] = value
            else:
                known = ", ".join([*SHARES, *_MILLISECONDS, *_SWITCHES, "seed"])
                raise OptionError(f"there is no fault {name!r}: use one of {known}")
        self.shares = shares
        for name, value in others.items():
            setattr(self, name, value)

    def hits(self, name: str, chance: random.Random) -> bool:
        """Draw once for the fault ``name``; costs no randomness while it is off, so runs stay comparable."""
        share = self.shares[name]
        return share > 0.0 and chance.random() < share

    def as_dict(self) -> dict[str, object]:
        others = {key: value for key, value in asdict(self).items() if key != "shares"}
        return {**self.shares, **others}


def _number(name: str, value: object, *, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise OptionError(f"{name} must be a number from 0 to {most:g}, got {value!r}")
    return float(value)
