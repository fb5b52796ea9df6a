"""What the actors of a worker process work with. Built once, after the fork."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from producers.pointers import Pointers
    from worker.callbacks.caller import Caller
    from worker.opt_out_sync import OptOutLister
    from worker.polling import Retriever
    from worker.settings import Config, Settings
    from worker.withdrawing import Canceller

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class RunAsync(Protocol):
    """Hands a coroutine to the process's event loop, and returns at once."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> Future[T]: ...


if TYPE_CHECKING:

    class Provider(Retriever, Canceller, OptOutLister, Protocol):
        """Of the gateway, what actors need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """``gateway`` gives the loop's Gateway, and is only called on the loop."""

    ledger: Ledger
    config: Config
    pointers: Pointers
    settings: Settings
    run_async: RunAsync
    gateway: Callable[[], Provider]
    caller: Caller
