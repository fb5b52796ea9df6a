"""Turn what one request came to into what the ledger records. Pure: randomness comes in, nothing goes out.

Waiting is no try: a bucket that must rest, a wrong setting at Telnyx or a connection that never was cost none of the
message's tries. Invariants, each with a test named after it:

- Only a clear "try again" of Telnyx uses a try.
- Retry-After wins over our own delay.
- What may have left is never recorded as not sent.
- A wrong setting rests its sender, unless it concerns the recipient alone; the message that met it never stands in front.
"""

from __future__ import annotations

import random
from dataclasses import replace

from producers.ledger.calls import Finish, RestScope, Taken
from worker.telnyx.errors import Scope
from worker.telnyx.facts import rank_of
from worker.telnyx.outcomes import Outcome

US = 1_000_000
RETRY_BASE_S, RETRY_CAP_S = 2.0, 300.0
SLOW_DOWN_S = 5.0
QUEUE_FULL_S = 120.0  # 40318: Telnyx's own queue of the sender is full, and drains at the sender's rate
CONFIGURATION_S = 300.0
CONFLICT_S = 5.0
PROVIDER_QUEUE_S = 60.0  # what Telnyx reports to have queued, we let drain, for at most so long at once
CONNECT_CAP_S = 60.0
STREAK, STREAK_HOLD_S = 10, 5.0  # so many unclear answers in a row rest the account: then one probe each 5 s


def to_finish(taken: Taken, outcome: Outcome, *, streak: int = 0, rng: random.Random) -> Finish:
    """What to record of one request.

    Args:
        taken: What was sent.
        outcome: What came back.
        streak: How many requests of this process in a row, this one included, came to nothing clear.
        rng: For the jitter of delays.
    """
    kind = outcome.kind
    if kind == "accepted":
        return _accepted(taken, outcome)
    if kind == "uncertain" and taken.may_be_out and outcome.note == "key_reused":
        # Telnyx has this key with other bytes: a resend would be refused each time. The ledger makes what may be out and
        # gets no more tries unconfirmed.
        return _finish(taken, replace(outcome, kind="rejected"))
    if kind in ("uncertain", "not_sent"):
        delay_s = _connect_delay_s(streak, rng) if kind == "not_sent" else 0.0
        hold_s = STREAK_HOLD_S if streak >= STREAK else 0.0
        return _finish(taken, outcome, delay_s=delay_s, hold_s=hold_s, scope="account", silence=True)
    if kind == "retry":
        delay_s = _retry_delay_s(taken.attempt, outcome.retry_after_s, rng)
        hold_s = outcome.hold_s or 0.0
        return _finish(
            taken, outcome, delay_s=delay_s, hold_s=hold_s, scope=_rests(outcome.scope, "sender"), uses_a_try=True
        )
    if kind == "slow_down":
        default_s = QUEUE_FULL_S if outcome.code == "40318" else SLOW_DOWN_S
        hold_s = outcome.hold_s or outcome.retry_after_s or default_s
        # Without a code that names a number, 429 is the account's limit.
        scope: RestScope = "sender" if outcome.code == "40318" else "account"
        return _finish(taken, outcome, hold_s=hold_s, scope=_rests(outcome.scope, scope), feedback=True)
    if kind == "configuration":
        wait_s = outcome.hold_s or CONFIGURATION_S
        if outcome.scope == "recipient":  # one foreign number must not stop its sender for everybody
            return _finish(taken, outcome, delay_s=wait_s, uses_a_try=True)
        # It waits as long as its sender rests, and then behind the others: were it this message after all, they go on.
        return _finish(taken, outcome, delay_s=wait_s, hold_s=wait_s, scope=_rests(outcome.scope, "sender"))
    return _finish(taken, outcome, delay_s=CONFLICT_S if kind == "conflict" else 0.0)


def not_sent(taken: Taken, why: str, *, delay_s: float = 0.0) -> Finish:
    """No byte of it left, by our own doing: it goes back to the head of its lane, or waits ``delay_s``."""
    return Finish(message=taken.message, token=taken.token, outcome="not_sent", why=why, delay_us=round(delay_s * US))


def uncertain(taken: Taken, why: str) -> Finish:
    """It may have left, and nothing tells."""
    return Finish(message=taken.message, token=taken.token, outcome="uncertain", why=why)


def unbuildable(taken: Taken, exc: Exception, *, delay_s: float) -> Finish:
    """We cannot make a request of it: it waits, and the ledger counts the tries."""
    return Finish(
        message=taken.message,
        token=taken.token,
        outcome="not_sent",
        why="unbuildable",
        code="poison",
        title=f"no request can be made of it: {type(exc).__name__}"[:64],
        delay_us=round(delay_s * US),
        uses_a_try=True,
    )


def _accepted(taken: Taken, outcome: Outcome) -> Finish:
    letters = {number: rank_of(status, final=False) for number, status in outcome.provider_status.items()}
    group = len(taken.to) > 1
    raw = next(iter(outcome.provider_status.values()), None)
    wait_s = outcome.wait_seconds or 0.0
    return Finish(
        message=taken.message,
        token=taken.token,
        outcome="accepted",
        why="provider_queue" if wait_s > 1 else "",
        provider_id=outcome.provider_id,
        state=next(iter(letters.values()), "A"),
        raw=raw,
        to=tuple(letters.items()) if group else (),
        from_number=outcome.from_number,
        parts=outcome.parts,
        replayed=outcome.replayed,
        hold_us=round(min(wait_s, PROVIDER_QUEUE_S) * US) if wait_s > 1 else 0,
        feedback=wait_s > 1,
    )


def _finish(
    taken: Taken,
    outcome: Outcome,
    *,
    delay_s: float = 0.0,
    hold_s: float = 0.0,
    scope: RestScope = "sender",
    feedback: bool = False,
    silence: bool = False,
    uses_a_try: bool = False,
) -> Finish:
    return Finish(
        message=taken.message,
        token=taken.token,
        outcome=outcome.kind,
        why=outcome.reason,
        code=outcome.code or None,
        title=outcome.title or None,
        delay_us=round(delay_s * US),
        uses_a_try=uses_a_try,
        hold_us=round(hold_s * US),
        scope=scope,
        feedback=feedback,
        silence=silence,
    )


def _rests(scope: Scope, otherwise: RestScope) -> RestScope:
    """What rests: never a recipient, and where the answer names nothing, ``otherwise``."""
    return otherwise if scope == "" or scope == "recipient" else scope  # noqa: PLR1714 - a type checker reads this one


def _retry_delay_s(attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
    """Full jitter: messages that failed together do not come back together."""
    if retry_after_s is not None:
        return max(retry_after_s, 0.001)
    most = min(RETRY_CAP_S, RETRY_BASE_S * (1 << min(max(attempt, 1) - 1, 20)))
    return max(rng.random() * most, 0.001)


def _connect_delay_s(streak: int, rng: random.Random) -> float:
    """No connection came to be. The more often in a row, the longer until the next look."""
    most = min(CONNECT_CAP_S, float(1 << min(max(streak, 1) - 1, 10)))
    return most * (0.5 + rng.random() / 2)
