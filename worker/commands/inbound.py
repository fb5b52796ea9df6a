"""``notify inbound``: what people wrote, and to which of our messages it is a reply. Numbers are masked unless asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.commands.session import open_ledger
from worker.terminal import AsJson, print_json, print_table


def inbound(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    full: Annotated[bool, typer.Option("--full", help="Show numbers in full, and texts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show messages from people, the newest first, and what they reply to."""
    from producers.masking import mask
    from worker.inbound import read_inbound

    rows = [received.payload() for received in read_inbound(open_ledger(), limit=limit)]
    if not full:
        for row in rows:
            row.update({"from": mask(row["from"]), "to": row["to"], "cc": [mask(number) for number in row["cc"] or []]})
            row["text"] = f"({len(row['text'])} characters)"
            row["media_urls"] = [f"({len(row['media_urls'])} files)"] if row["media_urls"] else []
    if as_json:
        print_json({"inbound": rows})
        return
    if not rows:
        print("nobody has written, or what they wrote is past its retention")
        return
    print_table(
        ["heard", "type", "from", "to", "text", ">media", "keyword", "reply to"],
        [
            [
                row["heard_at"], row["type"], row["from"], " ".join(row["to"]), row["text"], len(row["media_urls"]),
                row["keyword"] or "", row["reply_to"] or "",
            ]
            for row in rows
        ],
    )  # fmt: skip
