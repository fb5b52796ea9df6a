"""Compare the ledger with what the sandbox knows to be true: states, transitions, events, figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from service_kit import Service

from producers.events import Event
from producers.ledger.reading import MessageView, read_notification

# What a status of Telnyx's means in the end. Any other one is on its way still.
TRUE_STATES = {
    "delivered": "delivered",
    "read": "delivered",
    "delivery_failed": "failed",
    "sending_failed": "failed",
    "expired": "failed",
    "delivery_unconfirmed": "unconfirmed",
    "unknown": "unconfirmed",
}
# How far a message has come: from one place to the next, it goes up.
PLACES = {"new": 0, "scheduled": 1, "queued": 2, "sending": 3, "uncertain": 4, "accepted": 5, "sent": 6}
PLACES |= {"unconfirmed": 7, "failed": 8, "delivered": 9}


def entries(service: Service, ids: Iterable[str]) -> Iterator[MessageView]:
    """Every entry of these notifications."""
    for id in ids:
        after: int | None = -1
        while after is not None:
            view = read_notification(service.ledger, id, limit=1000, after=after)
            assert view is not None, f"{id} is gone"
            yield from view.messages
            after = view.next


def truth(service: Service) -> dict[str, dict[str, Any]]:
    """What the sandbox accepted, by our message's id. Nothing twice."""
    rows = service.sent()
    found = {row["ref"]: row for row in rows}
    assert len(found) == len(rows), "accepted twice"
    return found


def untrue(views: Iterable[MessageView], told: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """The messages whose state is not what their carrier knows: ours, theirs."""
    found = {}
    for view in views:
        theirs = told[view.id]["status"] if view.id in told else "never accepted"
        if TRUE_STATES.get(theirs) != view.state:
            found[view.id] = (view.state, theirs)
    return found


def assert_never_backward(views: Iterable[MessageView]) -> None:
    """Of each message, every step of its timeline is further than the one before, but for a repeat after doubt or a wait."""
    for view in views:
        places = [PLACES[step.state] for step in view.timeline]
        for before, after in pairwise(places):
            again = before in (3, 4) and after in (1, 2)  # not accepted, so it goes again
            assert after > before or again, (view.id, view.timeline)
        assert PLACES[view.state] == max(places), (view.id, view.state, view.timeline)


def assert_every_transition_is_told(events: Iterable[Event], views: Iterable[MessageView]) -> None:
    """With ``[events] all``: the stream names each state of each message once, in the order of its timeline.

    A timeline that has grown long (a message whose slots were missed again and again) has lost its middle; the stream has not.
    """
    told: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for event in events:
        if event.type in ("message.changed", "message.final", "message.corrected"):
            told[event.message].append((event.version, event.state))
    for view in views:
        states = [state for _, state in told[view.id]]
        assert [version for version, _ in told[view.id]] == list(range(2, view.version + 1)), view.id
        steps = [step.state for step in view.timeline][1:]
        if len(steps) < len(states):
            steps, states = steps[:4] + steps[-8:], states[:4] + states[-8:]
        assert steps == states, (view.id, states, view.timeline)


def assert_told_once_by_id(events: Iterable[Event], heard: list[dict[str, Any]], views: Iterable[MessageView]) -> None:
    """Whoever counts ids has each end once, from the stream and from callbacks alike, and both tell the same ids.

    A callback tells the state at its time: of an end that was corrected in between, the correction alone may be told.
    """
    wanted = Counter(view.id for view in views)
    events = [event for event in events if event.type in ("message.final", "message.corrected")]
    finals = {event.id: event.message for event in events if event.type == "message.final"}
    assert Counter(finals.values()) == wanted
    corrected = {event.message for event in events if event.type == "message.corrected"}
    letters = {letter["id"]: letter for letter in heard if letter["type"] in ("message.final", "message.corrected")}
    assert set(letters) <= {event.id for event in events}
    told = Counter(letter["message"] for letter in letters.values() if letter["type"] == "message.final")
    assert max(told.values()) == 1 and set(wanted) - set(told) <= corrected
    last = {letter["message"]: letter for letter in sorted(letters.values(), key=lambda letter: letter["version"])}
    assert {message: letter["state"] for message, letter in last.items()} == {view.id: view.state for view in views}


def true_figures(told: Iterable[dict[str, Any]], *, price: float) -> dict[str, Any]:
    """What statistics must say of messages that all ended at their carrier."""
    rows = list(told)
    parts = sum(row["parts"] for row in rows)
    return {
        "states": dict(Counter(TRUE_STATES[row["status"]] for row in rows)),
        "handed_over": len(rows),
        "segments": parts,
        "cost": {"USD": f"{price * parts:.4f}"},
    }
