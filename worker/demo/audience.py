"""Tell whoever watches: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from worker.demo.progress import Progress

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

STORY_LINES = 12
LINE_EVERY_S = 2.0
DRAW_EVERY_S = 0.2


class Audience:
    """``as_json``: standard output is left to the result, and the story goes to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._stream = sys.stderr if as_json else sys.stdout
        self._is_live = not as_json and sys.stdout.isatty()
        self._started = time.monotonic()
        self._story: deque[str] = deque(maxlen=STORY_LINES)
        self._live: Live | None = None
        self._drawn = 0.0

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self._started:5.1f} s  {text}"
        self._story.append(line)
        if self._live is None:
            print(line, file=self._stream, flush=True)

    def show(self, progress: Progress) -> None:
        """Show where things stand; draws no more often than anybody can read."""
        now = time.monotonic()
        if now - self._drawn < (DRAW_EVERY_S if self._is_live else LINE_EVERY_S):
            return
        self._drawn = now
        if not self._is_live:
            self.say(f"{progress.final} of {progress.messages} messages are final, {progress.delivered} delivered")
            return
        if self._live is None:
            self._live = self._start()
        self._live.update(self._picture(progress), refresh=True)

    def end(self) -> None:
        """Leave the last picture where it is; lines go below it from now on."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._is_live = False

    def _start(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
        live.start()
        return live

    def _picture(self, progress: Progress) -> Group:
        from rich import box
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header in ("channel", "messages", "under way", "delivered", "ended otherwise", ""):
            table.add_column(header, justify="left" if header in ("channel", "") else "right")
        for channel, row in progress.rows():
            cells: list[Any] = [channel, *(f"{count:,}" for count in row)]
            table.add_row(*cells, ProgressBar(total=max(1, row[0]), completed=row[0] - row[1], width=30))
        return Group(Text("\n".join(self._story)), table)
