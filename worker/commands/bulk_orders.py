"""Change the profile of numbers and follow what comes of it: one by one request, many by an order.

Telnyx works an order off by itself, so what is here only looks. Invariants, each with a test named after it:

- Each number that was asked for is in exactly one group of the report, also one that Telnyx does not mention.
- Ctrl-C loses nothing: the report is that of the last look, and says how to go on.
- An order whose answer was lost is not made again by itself: what to do is said instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worker.telnyx.account import Account, AccountError, Order
from worker.terminal import Exit, Failure

What = Literal["assign", "unassign"]


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of every number. ``missing``: asked for, and in no list of Telnyx's answer."""

    order_id: str
    success: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    why: str = ""
    next_step: str = ""

    @property
    def ok(self) -> bool:
        return not (self.failed or self.pending or self.missing)

    def groups(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "success", self.success
        yield "failed", self.failed
        yield "pending", self.pending
        if self.missing:
            yield "missing", self.missing

    def as_dict(self) -> dict[str, Any]:
        groups = {"missing": [], **{word: list(numbers) for word, numbers in self.groups()}}
        words = {"error": self.why, "next": self.next_step}
        return {"order_id": self.order_id or None, **groups, **{k: v for k, v in words.items() if v}}


def change_one(account: Account, number: str, profile: str) -> Followed:
    """Put one number on ``profile``, or take it off where that is empty. A refusal is a failed number, and says why."""
    try:
        account.update_number(number, profile=profile)
    except AccountError as error:
        if error.why not in ("missing", "refused"):
            raise
        return Followed("", failed=(number,), why=str(error))
    return Followed("", success=(number,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is asked for. An empty ``profile`` takes numbers off theirs; ``order_id`` takes up an order made before."""

    what: What
    profile: str
    numbers: Sequence[str]
    order_id: str | None = None
    assign_only: bool = False
    every_s: float = 1.0
    within_s: float = 1800.0


def run(account: Account, change: Change) -> Followed:
    """Change one number, or make (or take up) an order and look until nothing is pending, time is over, or Ctrl-C."""
    if change.order_id is None and len(change.numbers) == 1:
        return change_one(account, change.numbers[0], change.profile)
    order = account.bulk(change.order_id) if change.order_id else _start(account, change)
    again = f"go on with: notify numbers {change.what} --order {order.id}"
    why = ""
    try:
        print(f"order {order.id}", file=sys.stderr, flush=True)  # at once: whoever is killed now still has it
        for look in _looks(account, order, change.every_s, change.within_s):
            order = look
        if order.pending:
            why = f"still pending after {change.within_s:g} s"
    except KeyboardInterrupt:
        why = "interrupted; Telnyx goes on with the order"
    except AccountError as error:
        raise Failure(f"{error}; {again}", code_of(error), details={"order_id": order.id}) from error
    return _followed(order, change.numbers, why, again if why else "")


def _start(account: Account, change: Change) -> Order:
    remedy = f"the order may run all the same; to {change.what} again changes nothing that is done: run this once more"
    try:
        return account.start_bulk(change.profile, change.numbers, assign_only=change.assign_only)
    except KeyboardInterrupt:
        raise Failure(f"interrupted before Telnyx answered; {remedy}", Exit.NO) from None
    except AccountError as error:
        if not error.may_have_acted:
            raise
        raise Failure(f"{error}; {remedy}", code_of(error)) from error


def _looks(account: Account, order: Order, every_s: float, within_s: float) -> Iterator[Order]:
    """The order as it comes further, each look yielded as soon as it is known."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from worker.terminal import console

    screen = console(stderr=True)
    columns = (TextColumn("order {task.fields[id]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ends_s = time.monotonic() + within_s
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("order", id=order.id[:8])
        while True:
            total = len(order.success) + len(order.failed) + len(order.pending)
            bar.update(task, total=total, completed=total - len(order.pending))
            yield order
            left_s = ends_s - time.monotonic()
            if not order.pending or left_s <= 0:
                return
            time.sleep(min(every_s, left_s))
            order = account.bulk(order.id)


def _followed(order: Order, numbers: Sequence[str], why: str, next_step: str) -> Followed:
    named = {*order.success, *order.failed, *order.pending}
    missing = tuple(number for number in numbers if number not in named)
    return Followed(order.id, order.success, order.failed, order.pending, missing, why, next_step)


def code_of(error: AccountError) -> Exit:
    """The exit code of a request that came to nothing."""
    return {"key": Exit.USAGE, "missing": Exit.NO, "refused": Exit.NO}.get(error.why, Exit.UNREACHABLE)
