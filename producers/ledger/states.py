"""The states of a message, as scripts abbreviate them and as people read them."""

from __future__ import annotations

STATES = {
    "N": "new",
    "W": "scheduled",
    "Q": "queued",
    "S": "sending",
    "U": "uncertain",
    "A": "accepted",
    "T": "sent",
    "D": "delivered",
    "F": "failed",
    "X": "unconfirmed",
    "R": "rejected",
    "E": "expired",
    "C": "cancelled",
    "O": "opted_out",
}
LETTERS = {word: letter for letter, word in STATES.items()}
FINAL = frozenset("DFXRECO")
URGENT, NORMAL, BULK = 0, 1, 2
CLASSES = {"urgent": URGENT, "normal": NORMAL, "bulk": BULK}
