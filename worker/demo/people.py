"""The people of the demo. No number here can belong to anybody whom a mistake could reach: nothing leaves this machine."""

from __future__ import annotations

from itertools import count

STOPS_SALE, STOPS_LOCAL, OUT_BY_APP = "+13122990001", "+13122990002", "+13122990003"
TOO_SHORT, NO_NUMBER = "+1312", "call me"


class People:
    """Hands out numbers that nobody else in the demo has."""

    def __init__(self) -> None:
        self._us = count(1)
        self._uk = count(1)

    def us(self, how_many: int) -> list[str]:
        return [f"+1312200{next(self._us):04d}" for _ in range(how_many)]

    def uk(self, how_many: int) -> list[str]:
        return [f"+447700900{next(self._uk):03d}" for _ in range(how_many)]
