"""Read Telnyx's list of opt-outs: what a lost webhook would have told, and what has been lifted there.

Every few minutes what is new, with an overlap; once a day the whole list. The whole list is read in windows of time, each small
enough to be read within seconds, for pages slide while they are read: a person who is lifted moves all later rows up by one,
and a row that moves across the edge of a page is not seen. A window counts only if the provider named the same number of rows
with every page, and as many were seen. Invariants, each with a test named after it:

- Reading lifts nothing. Only what the list has shown once, what two complete lists no longer show, and what was said before the
  older of them began is lifted; an operator's word and what we read on our own never are.
- A list that could not be read whole, to its last row, lifts nothing.
- Nothing is lifted if that were more than a tenth of all: another account's key, or an empty answer, looks just like that.
- One process reads at a time; one that dies is followed at the place it had reached.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from producers.pointers import CHORES, Pointers, pointer
from worker.compliance.opt_out_list import STALE_S, SyncState
from worker.patience import frames
from worker.settings import Sender
from worker.telnyx.opt_out_list import ListedOptOut, OptOutPage
from worker.telnyx.outcomes import Unavailable

T = TypeVar("T")

EVERY_S: Final = 240  # between two looks at what is new
OVERLAP_S: Final = 1_800  # of what is new: six looks see each row
WHOLE_EVERY_S: Final = 86_400
WINDOW_ROWS: Final = 2_000  # eight pages: a window of more is halved
READ_AGAIN: Final = 5  # of a window in which rows moved
PAUSE_S: Final = 0.25  # between two requests
TURN_S: Final = 20.0  # then the job ends, and another goes on
BUCKETS_A_CALL: Final = 20  # some two thousand opt-outs
AHEAD_S: Final = 86_400  # their clock may be ahead of ours
MOST_LIFTED_SHARE, MOST_LIFTED_ANYWAY = 0.1, 50

log = structlog.get_logger(__name__)


class OptOutLister(Protocol):
    """Of the gateway, what this needs."""

    async def list_opt_outs(self, *, since_s: int, until_s: int, page: int) -> OptOutPage | Unavailable: ...


class _StopError(Exception):
    """This turn ends here; ``reason`` is kept and shown."""

    def __init__(self, reason: str, *, alert: bool = False) -> None:
        self.reason, self.alert = reason, alert
        super().__init__(reason)


class _TakenOverError(Exception):
    """Another process reads the list now."""


def start_if_due(ledger: Ledger, pointers: Pointers, *, every_s: int = EVERY_S) -> bool:
    """Have the list read if nobody has asked for that lately. The clock calls this, and every worker, so neither must be up.

    Raises:
        redis.RedisError: the server is away; the next call makes up for it.
    """
    key = ledger.key("os:due")
    if not ledger.redis.set(key, "1", nx=True, ex=every_s):
        return False
    try:
        pointers.push([pointer(CHORES, "sync_opt_outs")])
    except RedisError:
        ledger.redis.delete(key)
        raise
    return True


class OptOutSync:
    """Reads the list. Runs on the worker's event loop; ``in_thread`` runs what blocks.

    Args:
        lister: Gives the loop's gateway; asked for when needed, since it is built after this object.
        senders: Ours, by name: a row names our number.
    """

    def __init__(
        self,
        lister: Callable[[], OptOutLister],
        ledger: Ledger,
        senders: Mapping[str, Sender],
        *,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        turn_s: float = TURN_S,
        pause_s: float = PAUSE_S,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        self._lister, self._ledger = lister, ledger
        self._in_thread, self._sleep, self._clock = in_thread, sleep, clock
        self._turn_s, self._pause_s, self._window_rows = turn_s, pause_s, window_rows
        self._senders_of: dict[str, list[str]] = {}
        for name, sender in senders.items():
            if sender.from_ is not None:
                self._senders_of.setdefault(sender.from_, []).append(name)
        self._token = ""
        self._busy = False

    async def turn(self) -> bool:
        """Read for a while. True: there is more, so have it called again. Never raises, but for a cancellation."""
        if self._busy:
            return False
        self._busy, self._token = True, uuid.uuid4().hex
        try:
            view = await self._run(calls.opt_sync(self._token, "take"))
            if view is None:
                return False
            return await self._guarded(SyncState.of(view.fields), view.now_us)
        except RedisError as exc:
            log.warning("ledger_away", job="sync_opt_outs", error=type(exc).__name__)
        except _TakenOverError:
            log.info("opt_out_list_taken_over")
        except Exception as exc:  # noqa: BLE001 - the edge of a job: it is started again in a few minutes
            log.error("job_failed", job="sync_opt_outs", error=type(exc).__name__, trace=frames(exc))
        finally:
            self._busy = False
        return False

    async def _guarded(self, state: SyncState, now_us: int) -> bool:
        until_s = self._clock() + self._turn_s
        try:
            if now_us - state.new_us >= (EVERY_S - 60) * 1_000_000 or state.wanted:
                await self._read_new(state, now_us)
            if not state.phase and (state.wanted or now_us - state.tried_us >= WHOLE_EVERY_S * 1_000_000):
                await self._begin(state, now_us)
            if state.phase == "list":
                await self._read_whole(state, until_s)
            if state.phase in ("count", "lift"):
                await self._sweep(state, until_s)
        except _StopError as stop:
            say = log.error if stop.alert else log.warning
            say("opt_out_list_unread", reason=stop.reason, whole=state.phase == "list")
            if (age_s := state.whole_age_s(now_us)) is not None and age_s > STALE_S:
                remedy = "a START or STOP whose callback was lost stays unknown meanwhile: see the reason"
                log.error("opt_out_list_stale", age_h=age_s // 3_600, reason=stop.reason, remedy=remedy)
            await self._leave({"error": stop.reason, "error_us": now_us})
            return False
        await self._leave({})
        return bool(state.phase)

    # --- reading

    async def _read_new(self, state: SyncState, now_us: int) -> None:
        now_s = now_us // 1_000_000
        since_us = state.new_us or now_us - OVERLAP_S * 1_000_000
        since_s, new, total = max(0, since_us // 1_000_000 - OVERLAP_S), 0, 0
        for _ in range(READ_AGAIN):
            changed, total, steady = await self._read_window(state, since_s, now_s + AHEAD_S)
            new += changed
            if steady:
                break
        if new:
            log.info("opt_outs_listed", new=new, rows=total)
        await self._keep(state, {"new_us": now_us, "error": "", "error_us": ""})

    async def _begin(self, state: SyncState, now_us: int) -> None:
        """A new list. ``tried_us`` is when the last one began; one that fails is tried again in an hour."""
        again_us = now_us - (WHOLE_EVERY_S - 3_600) * 1_000_000
        changes: dict[str, str | int] = {
            "number": state.number + 1, "phase": "list", "began_us": now_us, "cursor_s": 0, "span_s": now_us // 1_000_000 + 1,
            "tried_us": again_us, "wanted": "", "rows": 0, "requests": 0,
        }  # fmt: skip
        await self._keep(state, changes)
        log.info("opt_out_list_begun", list=state.number)

    async def _read_whole(self, state: SyncState, until_s: float) -> None:
        end_s = state.began_us // 1_000_000 + 1
        failures = 0
        while state.cursor_s < end_s:
            if self._clock() >= until_s:
                return
            upto_s = min(end_s, state.cursor_s + state.span_s)
            try:
                _, total, steady = await self._read_window(state, state.cursor_s, upto_s, halve=state.span_s > 1)
            except _TooManyError:
                await self._keep(state, {"span_s": max(1, state.span_s // 2)})
                continue
            if not steady:
                failures += 1
                if failures >= READ_AGAIN:
                    await self._keep(state, {"phase": ""})
                    raise _StopError("rows_kept_moving")
                continue
            failures = 0
            span_s = state.span_s * (2 if total < self._window_rows // 4 else 1)
            await self._keep(state, {"cursor_s": upto_s, "span_s": min(span_s, end_s), "rows": state.rows + total})
        await self._complete(state)

    async def _complete(self, state: SyncState) -> None:
        lifts = state.newer > 0
        log.info("opt_out_list_complete", list=state.number, rows=state.rows)
        changes: dict[str, str | int] = {
            "older": state.newer, "older_us": state.newer_us, "newer": state.number, "newer_us": state.began_us,
            "tried_us": state.began_us, "newer_rows": state.rows, "phase": "count" if lifts else "", "scan": "0",
            "gone": 0, "listed": 0,
        }  # fmt: skip
        await self._keep(state, changes)

    async def _read_window(
        self, state: SyncState, since_s: int, until_s: int, *, halve: bool = False
    ) -> tuple[int, int, bool]:
        """Read and apply a window: how many scopes it changed, its rows, and whether no row moved meanwhile."""
        seen: set[ListedOptOut] = set()
        totals: set[int] = set()
        changed = unreadable = rows = 0
        page = pages = 1
        while page <= pages:
            found = await self._page(state, since_s, until_s, page)
            if halve and found.total > self._window_rows:
                raise _TooManyError
            fresh = [row for row in found.rows if row not in seen]
            changed += await self._apply(fresh, state)
            rows += len(fresh)  # one that stands twice on one page is two, one that came again has moved
            seen.update(fresh)
            totals.add(found.total)
            unreadable += found.unreadable
            pages, page = found.pages, page + 1
        if unreadable:
            log.error("opt_outs_unreadable", rows=unreadable, remedy="Telnyx masks persons or has changed its list")
            raise _StopError("rows_unreadable", alert=True)
        total = max(totals)
        return changed, total, len(totals) == 1 and rows == total

    async def _page(self, state: SyncState, since_s: int, until_s: int, page: int) -> OptOutPage:
        await self._sleep(self._pause_s)
        found = await self._lister().list_opt_outs(since_s=since_s, until_s=until_s, page=page)
        if isinstance(found, Unavailable):
            raise _StopError(found.reason, alert=found.alert)
        await self._keep(state, {"requests": state.requests + 1})
        return found

    async def _apply(self, rows: Sequence[ListedOptOut], state: SyncState) -> int:
        if not rows:
            return 0
        written = [calls.OptRow(r.person, True, self._scopes_of(r), r.created_us, r.keyword) for r in rows]
        is_first = not state.newer  # the very first list would flood the events with what was said long ago
        done = await self._run(
            calls.opt_rows(
                written, source="list", list_number=max(1, state.number), quiet=is_first and state.phase == "list"
            )
        )
        if done.broken:
            raise _StopError("rows_broke_the_script", alert=True)
        return done.changed

    def _scopes_of(self, row: ListedOptOut) -> list[str]:
        """Its profile, as Telnyx has it; a webhook has set our sender besides, so there it is marked. What has no profile and
        is none of our numbers is placed everywhere."""
        ours = [f"sender:{name}" for name in self._senders_of.get(row.sender, ())]
        if row.profile:
            return [f"profile:{row.profile}", *(f"?{scope}" for scope in ours)]
        return ours or ["global"]

    # --- lifting

    async def _sweep(self, state: SyncState, until_s: float) -> None:
        while state.phase and self._clock() < until_s:
            cursor, gone, listed = await self._in_thread(lambda: self._sweep_some(state))
            changes: dict[str, str | int] = {
                "scan": str(cursor), "gone": state.gone + gone, "listed": state.listed + listed,
            }  # fmt: skip
            if cursor == 0:
                changes |= self._after_sweep(state, state.gone + gone, state.listed + listed)
            await self._keep(state, changes)

    def _sweep_some(self, state: SyncState) -> tuple[int, int, int]:
        redis: Any = self._ledger.redis
        prefix = self._ledger.key("o:")
        cursor, keys = redis.scan(int(state.scan or 0), match=f"{_escaped(prefix)}*", count=1_000)
        names = [key.decode(errors="replace").removeprefix(prefix) for key in keys]
        buckets = [name for name in names if not name.startswith("any:")]
        gone = listed = 0
        what: Any = state.phase
        for i in range(0, len(buckets), BUCKETS_A_CALL):
            call = calls.opt_sweep(
                what,
                buckets[i : i + BUCKETS_A_CALL],
                older=state.older,
                older_began_us=state.older_us,
                newer_began_us=state.newer_us,
            )
            swept = self._ledger.run(call)
            gone, listed = gone + swept.gone, listed + swept.listed
        return int(cursor), gone, listed

    def _after_sweep(self, state: SyncState, gone: int, listed: int) -> dict[str, str | int]:
        if state.phase == "lift":
            log.info("opt_outs_lifted", lifted=gone)
            return {"phase": "", "lifted": gone, "held": "", "allowed": ""}
        if gone == 0:
            return {"phase": "", "lifted": 0, "held": "", "allowed": ""}
        if gone > max(MOST_LIFTED_ANYWAY, listed * MOST_LIFTED_SHARE) and not state.allowed:
            remedy = "check TELNYX_API_KEY; if they are lifted indeed: notify opt-outs sync --full --lift"
            log.error("opt_outs_not_lifted", unlisted=gone, of=listed, remedy=remedy)
            return {"phase": "", "lifted": 0, "held": gone}
        return {"phase": "lift", "scan": "0", "gone": 0, "listed": 0}

    # --- the state

    async def _run(self, call: Call[T]) -> T:
        result: T = await self._in_thread(lambda: self._ledger.run(call))
        return result

    async def _keep(self, state: SyncState, changes: Mapping[str, str | int]) -> None:
        view = await self._run(calls.opt_sync(self._token, "keep", changes=changes))
        if view is None:
            raise _TakenOverError
        state.become(view.fields)

    async def _leave(self, changes: Mapping[str, str | int]) -> None:
        await self._run(calls.opt_sync(self._token, "leave", changes=changes))


class _TooManyError(Exception):
    """The window holds more rows than can be read before they move."""


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "[]*?\\" else c for c in text)
