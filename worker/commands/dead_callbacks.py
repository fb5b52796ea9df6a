"""``notify dead --callbacks`` and ``notify replay --callbacks``: what apps were not told, and telling them after all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from worker.terminal import Exit, print_json, print_table

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger

A_TRIP = 500


def show_dead_callbacks(ledger: Ledger, limit: int, *, as_json: bool) -> None:
    from producers.ledger.callbacks import read_dead_callbacks
    from worker.times import rfc3339

    rows = [
        {"id": dead.id, "about": dead.about, "at": rfc3339(dead.at_us), "why": dead.why}
        for dead in read_dead_callbacks(ledger, limit=limit)
    ]
    if as_json:
        print_json({"dead_callbacks": rows})
    elif not rows:
        print("no callback was given up")
    else:
        print_table(["id", "about", "when", "why"], [[row["id"], row["about"], row["at"], row["why"]] for row in rows])


def replay_callbacks(ledger: Ledger, ids: list[str], *, as_json: bool) -> None:
    """Call again those of ``ids``, or all of them. 1 if one is no dead callback."""
    from producers.ledger.callbacks import call_again, read_dead_callbacks

    chosen = ids or [dead.id for dead in read_dead_callbacks(ledger, limit=100_000)]
    words: list[str] = []
    for i in range(0, len(chosen), A_TRIP):
        answered: list[str] = ledger.run(call_again(chosen[i : i + A_TRIP]))
        words += answered
    again = words.count("again")
    unknown = [id for id, word in zip(chosen, words, strict=True) if word != "again"]
    if as_json:
        print_json({"again": again, "unknown": unknown})
    else:
        for id in unknown:
            print(f"{id[:60]} is no callback that was given up: `notify dead --callbacks` lists them")
        print(f"{again:,} owed again")
    if unknown:
        raise typer.Exit(int(Exit.NO))
