"""Where what is drawn comes from: hypothesis, which shrinks, or a plain generator, which is fast."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Draw(Protocol):
    """What steps draw with. A choice that stands twice is drawn twice as often."""

    def of(self, choices: Sequence[T]) -> T: ...

    def whole(self, least: int, most: int) -> int: ...

    def some(self, choices: Sequence[T], *, least: int = 1, most: int, unique: bool = False) -> list[T]: ...


class Shrinking:
    """Draws that hypothesis makes."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def of(self, choices: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(choices))

    def whole(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))

    def some(self, choices: Sequence[T], *, least: int = 1, most: int, unique: bool = False) -> list[T]:
        return self._data.draw(st.lists(st.sampled_from(choices), min_size=least, max_size=most, unique=unique))


class Plain:
    """Draws of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, choices: Sequence[T]) -> T:
        return choices[int(self._random.random() * len(choices))]

    def whole(self, least: int, most: int) -> int:
        return least + int(self._random.random() * (most - least + 1))

    def some(self, choices: Sequence[T], *, least: int = 1, most: int, unique: bool = False) -> list[T]:
        if unique:
            return self._random.sample(choices, min(len(choices), self.whole(least, most)))
        return [self.of(choices) for _ in range(self.whole(least, most))]
