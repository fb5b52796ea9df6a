"""What no receipt tells is asked for: lost webhooks are a normal day, and ten minutes without any are survived.

Durations are divided by ``--silence-scale`` (20 unless told otherwise); with 1 they are the real ones, and a run takes about
25 minutes: ``pytest tests/faults/test_silence.py -s --silence-scale 1``. The five questions a second are never scaled.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from service_kit import Service, running_service, wait_until
from truth_kit import assert_never_backward, entries, truth, untrue

from worker.sandbox import SandboxOptions, magic_number

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

FATES = (40, 42, 43, 44, 45)  # carriers' failures, a late one, unconfirmed, a status that nobody documented, never left


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--silence-scale"))


def people(count: int) -> list[str]:
    """One in ten has a fate of its own; the others get their messages."""
    return [
        magic_number(FATES[i // 10 % len(FATES)], i // 50) if i % 10 == 9 else f"+1312{2_000_000 + i:07d}"
        for i in range(count)
    ]


def options(scale: float) -> SandboxOptions:
    """Carriers that take some seconds for a verdict, a minute for a late one."""
    return SandboxOptions(seed=1, sent_delay_s=20 / scale, final_delay_s=40 / scale, late_s=60 / scale)


def all_ended(service: Service, id: str) -> bool:
    return service.notifier.status(id, limit=0).is_final


def test_every_webhook_of_ten_minutes_lost_and_all_messages_reach_the_carrier_s_true_state(
    tmp_path: Path, scale: float
) -> None:
    deaf_s = 600 / scale
    count = int(5 * deaf_s)
    with running_service(tmp_path, sandbox=options(scale), poll_after=f"{60 / scale:g}s", rate="5/s") as service:
        service.start_web()
        service.start_worker()
        service.sandbox("faults", {"lose_receipts": 1.0})
        began_s = time.monotonic()
        ticket = service.notifier.enqueue("notice", to=people(count), text="hello")
        wait_until(lambda: time.monotonic() - began_s > deaf_s, timeout_s=deaf_s + 60, what="the deafness to pass")
        service.sandbox("faults", {"lose_receipts": 0.0})
        during = service.states(ticket.id)
        wait_until(
            lambda: all_ended(service, ticket.id),
            timeout_s=1200 / scale + 120,
            what="every message to be final",
            seen=lambda: service.states(ticket.id),
        )
        took_s = time.monotonic() - began_s
        views = list(entries(service, [ticket.id]))
        assert len(views) == count
        assert untrue(views, truth(service)) == {}
        assert_never_backward(views)
        callbacks = service.sandbox("summary")["callbacks"]
        assert callbacks["lost"] > count, "the webhooks came all the same"
        asked = count_polls(service, [view.id for view in views])
        print(
            f"\nscale {scale:g}: {count} messages at 5/s, no webhook for {deaf_s:g} s; at its end {during}; all true after "
            f"{took_s:.0f} s ({took_s * scale / 60:.1f} minutes unscaled); {sum(asked)} polls, {max(asked)} at most of one"
        )


def test_with_a_fifth_of_the_receipts_lost_every_message_is_final_within_two_polls(
    tmp_path: Path, scale: float
) -> None:
    count = 300
    with running_service(tmp_path, sandbox=options(scale), poll_after=f"{60 / scale:g}s", rate="100/s") as service:
        service.start_web()
        service.start_worker()
        service.sandbox("faults", {"lose_receipts": 0.2})
        ticket = service.notifier.enqueue("notice", to=people(count), text="hello")
        wait_until(
            lambda: all_ended(service, ticket.id),
            timeout_s=1200 / scale + 120,
            what="every message to be final",
            seen=lambda: service.states(ticket.id),
        )
        views = list(entries(service, [ticket.id]))
        assert untrue(views, truth(service)) == {}
        asked = count_polls(service, [view.id for view in views])
        print(
            f"\nscale {scale:g}: {count} messages, of which {sum(n > 0 for n in asked)} were asked about, {asked.count(2)} twice"
        )
        assert max(asked) in (1, 2)


def count_polls(service: Service, messages: list[str]) -> list[int]:
    """How often each was asked about."""
    with service.ledger.redis.pipeline(transaction=False) as pipe:
        for message in messages:
            pipe.hget(service.ledger.key(f"m:{message}"), "pn")
        return [int(n or 0) for n in pipe.execute()]
