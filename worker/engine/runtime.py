"""Put the parts of one worker process together: broker, consumers, event loop, sending, liveness, shutdown.

Built after the fork, by ``worker.main``; nothing here connects before :meth:`Runtime.boot`, which Dramatiq calls through
the life cycle before it starts a consumer.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import time
from concurrent.futures import Future
from typing import Any

import structlog

from producers.ledger.connection import connect, connect_async
from producers.ledger.ledger import AsyncLedger, Ledger
from producers.pointers import QUEUES, Pointers
from worker.actors import register, send
from worker.actors.context import Context
from worker.callbacks.caller import Caller
from worker.callbacks.post import Post
from worker.engine.bell import Bells, BellThread
from worker.engine.broker import NotifyBroker
from worker.engine.clock import ServerClock
from worker.engine.hands import HANDS, Hands
from worker.engine.identity import Identity
from worker.engine.liveness import Liveness
from worker.engine.loop import EngineLoop
from worker.engine.shutdown import LifeCycle, Stopping
from worker.engine.slot_consumer import Granter
from worker.opt_out_sync import start_if_due
from worker.patience import patiently
from worker.publication import publication
from worker.publishing import publish
from worker.sending.failover import Failover
from worker.sending.finisher import Finisher
from worker.sending.sender import Sender
from worker.sending.slots import lane_specs
from worker.sending.takes import TakeSchedule
from worker.settings import Settings
from worker.telnyx.gateway import Gateway

CONNECTIONS = 66  # Dramatiq's threads, its consumers, and ours
LOOP_CONNECTIONS = 32  # takes and finishes share calls, so few are under way at once
BOOT_PATIENCE_S = 20.0  # the master waits 30 s for a process to boot
SPARE_FILES = 256

log = structlog.get_logger(__name__)


class Runtime:
    """One worker process. ``broker`` is what Dramatiq runs."""

    def __init__(self, settings: Settings, *, hands: int = HANDS) -> None:
        self.settings = settings
        config = settings.config
        self.redis = connect(settings.redis_url, max_connections=CONNECTIONS)
        self.ledger = Ledger(self.redis, settings.namespace)
        self.pointers = Pointers(self.redis, settings.namespace)
        self.stopping = Stopping()
        self.bells = Bells(QUEUES)
        self.stopping.on_begin(self.bells.ring_all)
        self.hands = Hands(hands, ring=self._nudge)
        self.identity = Identity()
        self.lanes = lane_specs(config, publication(config, release=settings.release), settings.public_url)
        self.granter = Granter(
            self.ledger,
            identity=self.identity,
            hands=self.hands,
            clock=ServerClock(),
            bells=self.bells,
            lanes=self.lanes.keys(),
            stopping=self.stopping,
            rests=lambda: self._failover is not None and self._failover.rests,
            lost=self._lost,
        )
        self.loop = EngineLoop()
        self.liveness = Liveness(
            self.ledger,
            self.identity,
            limit_s=config.timing.liveness_s,
            stopping=self.stopping,
            orphaned=_stop_this_process,
            chores=self._start_chores,
        )
        self.broker = NotifyBroker(
            self.redis,
            settings.namespace,
            bells=self.bells,
            granter=self.granter,
            stopping=self.stopping,
            middleware=[LifeCycle(self.stopping, boot=self.boot, busy=self.busy, last=self.liveness.end)],
        )
        self.identity.follow(self.broker.use_id)
        self.caller = Caller(self.ledger, config, self._get_post, stopping=self.stopping)
        send.register(self.broker, self._start_job)
        register(self.broker, self._context())
        # made by boot, on the loop
        self._failover: Failover | None = None
        self._gateway: Gateway | None = None
        self._post: Post | None = None
        self._finisher: Finisher | None = None
        self._takes: TakeSchedule | None = None

    def boot(self) -> None:
        """Connect and start what must be there before the first job: the configuration, the loop, the first beat."""
        _raise_file_limit(self.hands.total + SPARE_FILES)
        answer = patiently(
            lambda: publish(self.ledger, self.settings.config, self.settings.release), within_s=BOOT_PATIENCE_S
        )
        self.loop.start()
        self.loop.run(self._prepare()).result()
        patiently(self.liveness.start, within_s=BOOT_PATIENCE_S)
        BellThread(
            self.redis, self.settings.namespace, self.bells, lost=self._lost, forgotten=self._hear_of_failover
        ).start()
        _quiet_the_collector()
        log.info("worker_booted", process=self.identity.current, configuration=answer, lanes=len(self.lanes))

    def busy(self) -> int:
        """How much is under way: hands in use, results that are not written, apps that are being called."""
        return self.hands.used + self.caller.in_flight + (self._finisher.pending if self._finisher is not None else 0)

    async def _prepare(self) -> None:
        """On the loop: what belongs to it."""
        settings = self.settings
        redis = connect_async(settings.redis_url, max_connections=LOOP_CONNECTIONS)
        ledger = AsyncLedger(redis, settings.namespace)

        async def reconnect() -> None:
            await redis.connection_pool.disconnect(inuse_connections=False)
            self.redis.connection_pool.disconnect(inuse_connections=False)

        self._failover = Failover(ledger, process=lambda: self.identity.current, reconnect=reconnect)
        self.loop.keep("failover", self._failover.run())
        self._gateway = Gateway(
            settings.telnyx_api_key,
            settings.telnyx_base_url,
            public_url=settings.public_url,
            connections=self.hands.total + 64,  # polls need some too
        )
        self._finisher = Finisher(ledger, self._failover)
        self.loop.keep("results", self._finisher.run())
        sender = Sender(
            self._gateway,
            lanes=self.lanes,
            public_url=settings.public_url,
            record=self._finisher.add,
            more=self.granter.nudge,
        )
        self._takes = TakeSchedule(
            ledger,
            process=lambda: self.identity.current,
            failover=self._failover,
            lanes=self.lanes,
            on_taken=sender.taken,
            on_missed=sender.missed,
            on_unsafe=sender.unsafe,
            on_lapsed=self.identity.report_lapse,
        )

    def _lost(self, exc: BaseException, sent_s: float) -> None:
        if self._failover is not None:
            self._failover.lost(exc, sent_s)

    def _hear_of_failover(self) -> None:
        if self._failover is not None:
            self._failover.heard_of()

    def _start_chores(self) -> None:
        start_if_due(self.ledger, self.pointers)

    def _nudge(self) -> None:
        self.granter.nudge()

    def _start_job(self, job: int) -> None:
        slots = self.granter.pick_up(job)
        if slots and self._takes is not None:
            self.loop.call(self._takes.add, slots)

    def _context(self) -> Context:
        return Context(
            ledger=self.ledger,
            config=self.settings.config,
            pointers=self.pointers,
            settings=self.settings,
            run_async=self._run_async,
            gateway=self._get_gateway,
            caller=self.caller,
        )

    def _run_async(self, work: Any) -> Future[Any]:
        return self.loop.run(work)

    def _get_gateway(self) -> Gateway:
        if self._gateway is None:
            raise RuntimeError("the gateway is made when the process boots: ask for it in a job")
        return self._gateway

    def _get_post(self) -> Post:
        if self._post is None:  # made when it is first needed: most sites call nobody
            self._post = Post(self.settings.secret, allow_private=self.settings.config.callbacks.allow_private)
        return self._post


def _stop_this_process() -> None:
    """Our master is gone, and nobody would end us: stop in good order, as it would have asked."""
    log.warning("master_gone")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)  # the clock of the shutdown runs


def _quiet_the_collector() -> None:
    """Spare the garbage collector what never becomes garbage: a full pass over the SDK's models takes longer than a slot."""
    gc.collect()
    gc.freeze()
    gc.enable()  # the master turned it off while it loaded
    gc.set_threshold(20_000, 20, 20)


def _raise_file_limit(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
