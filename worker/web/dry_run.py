"""Say what a notification would become, and write nothing: neither the notification nor its idempotency key.

Renders and routes as a worker will, so what is refused here would end ``rejected`` there. The time is an estimate from
the sender's own backlog and rate at this moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from producers.errors import FieldError
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.notification import ValidRequest, validate
from worker.compliance.opt_outs import opted_out_among
from worker.compliance.time_zones import ZoneFields
from worker.content.rendering import render_content
from worker.content.segments import Segments, count
from worker.content.templates import RenderError
from worker.content.windows import is_free_form, template_instead
from worker.pacing.lanes import read_lanes
from worker.routing import Refusal, refused_destination, route
from worker.settings import Config, JobType, Sender
from worker.telnyx.builder import Content
from worker.times import rfc3339
from worker.web.problems import invalid

NUMBERS_A_CALL = 500
NEVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class _Trial:
    """What one text would be: where it goes and what it costs, or why it does not go."""

    lane: str = ""
    segments: Segments | None = None
    reason: str = ""
    needs_window: bool = False  # free-form WhatsApp without a template to take its place


def dry_run(
    fields: Mapping[str, Any], *, config: Config, job_types: Mapping[str, Any], ledger: Ledger, now_us: int
) -> dict[str, Any]:
    """The answer to ``?dry_run=true``.

    Raises:
        InvalidNotification: as the call itself would.
        Problem: 422, where the content of every recipient cannot be rendered.
    """
    request = validate(fields, job_types, now_us=now_us)
    job = config.job_types[request.job_type]
    sender = config.senders[job.sender]
    trials = _try_all(request, job, sender)
    reasons = _reasons(request, sender, trials)
    lane = next((trial.lane for trial in trials.values() if trial.lane), job.sender)
    for number in _opted_out(ledger, lane, config, job, list(trials)):
        reasons[number] = "opted_out"
    for number in _out_of_window(ledger, job.sender, [n for n, trial in trials.items() if trial.needs_window]):
        reasons.setdefault(number, "whatsapp_window")
    going = [number for number in trials if number not in reasons]
    leaves_us = _leaves_us(ledger, lane, request, now_us)
    delayed: dict[str, tuple[str, int]] = {}
    if job.has_rules:
        ends_us = max(now_us, request.send_at_us or 0) + request.valid_for_us
        delayed = _kept_back(ledger, request.job_type, going, now_us, leaves_us or request.send_at_us or now_us)
        reasons |= {number: reason for number, (reason, until_us) in delayed.items() if until_us >= ends_us}
        delayed = {number: row for number, row in delayed.items() if number not in reasons}
        leaves_us = _first(leaves_us, [n for n in going if n not in reasons], delayed, together=request.group)
    longest = max((t.segments for t in trials.values() if t.segments is not None), key=_cost, default=None)
    encoding = None if longest is None else ("UCS-2" if longest.encoding == "UCS-2" else "GSM-7")
    return {
        "encoding": encoding,
        "parts": 1 if longest is None else longest.parts,
        "forces_ucs2": [] if longest is None else list(longest.forces_ucs2),
        "leaves_at": None if leaves_us is None else rfc3339(leaves_us),
        "filtered": [{"to": number, "reason": reasons[number]} for number in trials if number in reasons],
        "delayed": [
            {"to": number, "reason": reason, "leaves_at": rfc3339(until_us)}
            for number, (reason, until_us) in delayed.items()
        ],
    }


def _try_all(request: ValidRequest, job: JobType, sender: Sender) -> dict[str, _Trial]:
    """A trial for each recipient; those without variables of their own share one."""
    shared: _Trial | None = None
    trials: dict[str, _Trial] = {}
    for number, variables in request.recipients:
        if variables:
            try:
                trials[number] = _try(request, job, sender, variables)
            except RenderError:
                trials[number] = _Trial(reason="content")
            continue
        if shared is None:
            try:
                shared = _try(request, job, sender, None)
            except RenderError as wrong:
                raise invalid(FieldError(wrong.field, wrong.value, wrong.remedy)) from None
        trials[number] = shared
    return trials


def _try(request: ValidRequest, job: JobType, sender: Sender, variables: Mapping[str, Any] | None) -> _Trial:
    made = render_content(job, request.content, channel=sender.channel, variables=variables)
    content = Content(
        text=made.get("text"),
        media_urls=tuple(made.get("media_urls") or ()),
        subject=made.get("subject"),
        whatsapp=made.get("whatsapp"),
    )
    segments = None
    if content.text and sender.rules.has_segments and not content.media_urls:
        segments = count(content.text, short_code=sender.is_short_code)
    way = route(job.sender, sender, content, max_parts=job.max_parts)
    if isinstance(way, Refusal):
        return _Trial(segments=segments, reason=way.code)
    needs_window = is_free_form(content.whatsapp) and template_instead(job, request.content, variables) is None
    return _Trial(lane=way.lane, segments=segments, needs_window=needs_window)


def _reasons(request: ValidRequest, sender: Sender, trials: Mapping[str, _Trial]) -> dict[str, str]:
    reasons = {}
    for number, _ in request.recipients:
        refusal = refused_destination(sender, number)
        reason = trials[number].reason or (refusal.code if refusal else "")
        if reason:
            reasons[number] = reason
    return reasons


def _opted_out(ledger: Ledger, lane: str, config: Config, job: JobType, numbers: Sequence[str]) -> set[str]:
    published = read_lanes(ledger, [lane])
    profile = config.senders[job.sender].messaging_profile_id
    scopes = ["global", f"sender:{job.sender}", *([f"profile:{profile}"] if profile else [])]
    return opted_out_among(ledger, numbers, published[0].scopes if published else scopes)


def _out_of_window(ledger: Ledger, sender: str, numbers: Sequence[str]) -> list[str]:
    """Those of ``numbers`` who have not written to the sender within 24 hours."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.exists(ledger.key(f"wa:{sender}:{number}"))
        found = pipe.execute() if numbers else []
    return [number for number, is_open in zip(numbers, found, strict=True) if not is_open]


def _kept_back(
    ledger: Ledger, job_type: str, numbers: Sequence[str], now_us: int, from_us: int
) -> dict[str, tuple[str, int]]:
    """Who must wait for what of the job type's rules, and until when; asked of the scripts that will decide it."""
    kept: dict[str, tuple[str, int]] = {}
    for start in range(0, len(numbers), NUMBERS_A_CALL):
        fields = ZoneFields(datetime.fromtimestamp(now_us / 1_000_000, UTC))
        people = [(number, fields.of([number])) for number in numbers[start : start + NUMBERS_A_CALL]]
        foreseen = ledger.run(calls.foresee(job_type, from_us, people, fields.tables))
        for (number, _), seen in zip(people, foreseen, strict=True):
            opens_us = NEVER_US if seen.opens_us is None else seen.opens_us
            until_us = max(opens_us, seen.free_us)
            if until_us > from_us:
                kept[number] = ("quiet_hours" if opens_us >= seen.free_us else "frequency", until_us)
    return kept


def _first(
    leaves_us: int | None, going: Sequence[str], delayed: Mapping[str, tuple[str, int]], *, together: bool
) -> int | None:
    """When the first message leaves; a group leaves as one, so with the last of its members."""
    if leaves_us is None or not going:
        return None
    times = [delayed[number][1] if number in delayed else leaves_us for number in going]
    return max(times) if together else min(times)


def _leaves_us(ledger: Ledger, lane: str, request: ValidRequest, now_us: int) -> int | None:
    published = read_lanes(ledger, [lane])
    if not published or published[0].state in ("paused", "draining", "drained", "gone"):
        return None
    if request.send_at_us is not None:
        return request.send_at_us
    return now_us + published[0].wait_us(request.klass, now_us)


def _cost(segments: Segments) -> tuple[int, int]:
    return segments.parts, segments.units
