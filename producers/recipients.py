"""Read ``to``: one recipient or up to 100,000, each a number, or a number with variables of its own.

A list of 100,000 is read within seconds and within the memory it comes in: clean North American numbers take a short
way (``producers.phone``), and per recipient nothing is kept but the number and the caller's own variables. Duplicates
count once, and the first wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from producers.fields import variables_of
from producers.masking import mask
from producers.phone import EXAMPLE, NotANumber, is_bsuid, normalise
from producers.problems import Problems, described, nearest

RECIPIENTS_MAX = 100_000
GROUP_MAX = 8  # developers.telnyx.com, "Group messaging"

Recipient = tuple[str, dict[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the job type wants of each recipient.

    Attributes:
        bsuid: WhatsApp's business-scoped user ids are addresses too.
        group: All of them get one message, so none has variables of its own.
        required: The variables that the template needs and that the request does not give to everyone.
        known: The variables that the template can use; None if any will do.
        check_variables: False: the job type is unknown, so nothing can be said about variables.
        missing_for_all: Filled while reading: what some recipient without own variables lacks.
    """

    bsuid: bool = False
    group: bool = False
    required: Collection[str] = ()
    known: Collection[str] | None = None
    check_variables: bool = True
    missing_for_all: set[str] = field(default_factory=set)


def read_recipients(value: object, path: str, problems: Problems, wanted: Wanted) -> list[Recipient]:
    """The recipients in order, each once. Says what is wrong as ``to`` or ``to[17]``."""
    if isinstance(value, str | Mapping):
        found = _read_one(value, path, problems, wanted)
        return [found] if found else []
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray):
        problems.add(path, described(value), f'write a number like "{EXAMPLE}", or a list of numbers')
        return []
    entries = list(islice(value, RECIPIENTS_MAX + 1))
    if not entries:
        problems.add(path, "an empty list", "give at least one recipient")
        return []
    if len(entries) > RECIPIENTS_MAX:
        problems.add(path, f"more than {RECIPIENTS_MAX:,}", f"give at most {RECIPIENTS_MAX:,}: enqueue them in parts")
        return []
    recipients: dict[str, dict[str, Any] | None] = {}
    for index, entry in enumerate(entries):
        read = _read_one(entry, f"{path}[{index}]", problems, wanted)
        if read and read[0] not in recipients:
            recipients[read[0]] = read[1]
    if wanted.group and len(recipients) > GROUP_MAX:
        problems.add(path, f"{len(recipients):,} recipients", f"a group has at most {GROUP_MAX}")
    return list(recipients.items())


def _read_one(entry: object, path: str, problems: Problems, wanted: Wanted) -> Recipient | None:
    if isinstance(entry, str):
        if wanted.required:
            wanted.missing_for_all.update(wanted.required)
        number = _read_number(entry, path, problems, wanted)
        return (number, None) if number else None
    if not isinstance(entry, Mapping):
        remedy = f'write a number like "{EXAMPLE}", or {{"to": ..., "variables": ...}}'
        problems.add(path, described(entry), remedy)
        return None
    for key in entry:
        if key not in ("to", "variables"):
            remedy = nearest(str(key), ("to", "variables"), otherwise="remove it: a recipient has to and variables")
            problems.add(f"{path}.{_shown(key)}", "unknown", remedy)
    own = _read_variables(entry.get("variables"), f"{path}.variables", problems, wanted)
    address = entry.get("to")
    if not isinstance(address, str):
        problems.add(path, described(address), f'write "to" as a number like "{EXAMPLE}"')
        return None
    number = _read_number(address, path, problems, wanted)
    return (number, own) if number else None


def _read_number(raw: str, path: str, problems: Problems, wanted: Wanted) -> str | None:
    if wanted.bsuid and is_bsuid(raw):
        return raw
    try:
        return normalise(raw)
    except NotANumber as wrong:
        problems.add(path, mask(raw) if raw else "an empty string", wrong.remedy)
        return None


def _read_variables(value: object, path: str, problems: Problems, wanted: Wanted) -> dict[str, Any] | None:
    if value is None:
        wanted.missing_for_all.update(wanted.required)
        return None
    own = variables_of(value, path, problems)
    if own is None or not wanted.check_variables:
        return own
    if wanted.group and own:
        problems.add(path, described(own), "a group gets one text: give variables in the request's own `variables`")
        return None
    for name in wanted.required:
        if name not in own:
            problems.add(f"{path}.{name}", "missing", "the template needs it: add it here, or for all in `variables`")
    check_known(own, path, problems, wanted.known)
    return own or None


def check_known(given: Mapping[str, Any], path: str, problems: Problems, known: Collection[str] | None) -> None:
    """Name the variables that nothing uses: most are typos of one that would then be missing."""
    if known is None:
        return
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            remedy = nearest(name, known, otherwise=f"remove it: this job type has {names}")
            problems.add(f"{path}.{name}", "unknown", remedy)


def _shown(key: object) -> str:
    return key[:40] if isinstance(key, str) and key.isidentifier() else "?"
