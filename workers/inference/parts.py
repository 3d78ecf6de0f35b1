"""What a pipeline is put together from, wired in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.sessions import NewSession
from workers.inference.artifacts import Artifacts
from workers.inference.claim import Claimer
from workers.inference.costs import CostKeeper
from workers.inference.credit import Credit
from workers.inference.decode_crew import DecodeCrew, fitting_threads
from workers.inference.decoding import Decoder
from workers.inference.device import Device
from workers.inference.finish import Announce, Finisher
from workers.inference.gate import Gate
from workers.inference.intake import Intake
from workers.inference.ledger import Ledger
from workers.inference.limits import LimitsOf
from workers.inference.meters import Meters
from workers.inference.pack_stock import PackStock
from workers.inference.passes import Passes
from workers.inference.payloads import Payloads
from workers.inference.ports import LoadedModel, Runtime
from workers.inference.ready import Ready
from workers.inference.refs import RefReader
from workers.inference.session import SessionKeeper
from workers.inference.versions import Prober, Versions, Watchers
from workers.settings import WorkerSettings


class Parts:
    """Every part of one pipeline; none of them has begun anything."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        runtime: Runtime,
        settings: WorkerSettings,
        clock: Clock,
        make_session: Callable[[str], NewSession],
        announce: Announce | None,
        *,
        stopping: Callable[[], bool],
    ) -> None:
        self._load_alone = frozenset(settings.load_alone)
        self.intake = Intake(clock)
        self.meters = Meters(clock)
        self.gate = Gate((database.ping, objects.probe), clock)
        self.ledger = Ledger(settings.ledger, settings.device_threads)
        self.versions = Versions(
            database,
            Artifacts(objects, settings.cache_dir),
            runtime,
            clock,
            max_models=settings.max_models,
            on_news=self.intake.poke,
            watchers=Watchers(
                loading=self.ledger.loading,
                loaded=self._loaded,
                evicted=self.meters.unloaded,
                waiting=self.intake.waiting_versions,
                beside=self._beside,
            ),
        )
        self.prober = Prober(database, self.versions, every_s=settings.probe_versions_every_s)
        limits = LimitsOf(settings.max_batch)
        self.credit = Credit(settings.max_batch)
        self.ready = Ready(clock, limits, self.credit, self.intake.poke)
        self.costs = CostKeeper(database, self.ready, limits, runtime.device_kind)
        self.sessions = SessionKeeper(
            database,
            clock,
            make_session,
            lease_ttl_s=settings.lease_ttl_s,
            renew_every_s=settings.renew_every_s,
            on_open=self.ledger.session,
            stats=self.meters.snapshot,
            on_renewed=self.costs.save,
        )
        self.stock = PackStock(database, clock, settings.retention_days)
        self.claimer = Claimer(
            database,
            self.intake,
            self.versions,
            self.sessions,
            self.gate,
            clock,
            self.credit,
            self.ready,
            self.stock,
            self.meters,
            max_batch=settings.max_batch,
            wait_patience_s=settings.wait_patience_s,
        )
        self.crew = DecodeCrew(settings.decode_threads or fitting_threads(os.cpu_count() or 1))
        self.decoder = Decoder(
            Payloads(database, objects),
            RefReader(database, objects, settings.ref_prefixes, max_bytes=settings.max_ref_bytes),
            self.ready,
            self.credit,
            clock,
            self.meters,
            self.crew,
            max_bytes=settings.max_claim_bytes,
            stopping=stopping,
            trouble=self.claimer.trouble,
        )
        self.passes = Passes(self.ready, limits, clock)
        self.devices = [
            Device(slot, self.ledger, clock, self.ready, self.passes, self.meters)
            for slot in range(settings.device_threads)
        ]
        self.finisher = Finisher(
            database,
            objects,
            self.gate,
            clock,
            self.sessions.rate,
            intake=self.intake,
            credit=self.credit,
            stock=self.stock,
            ready=self.ready,
            meters=self.meters,
            announce=announce,
            put_patience_s=settings.put_patience_s,
            retry_back_off_s=settings.retry_back_off_s,
        )

    def _beside(self, version_id: str) -> AbstractContextManager[None]:
        """What may run while this version is loaded."""
        return self.passes.alone() if version_id in self._load_alone else nullcontext()

    def _loaded(self, model: LoadedModel) -> None:
        """Before its first batch: go on from what is known of it."""
        self.costs.note(model)
        self.meters.loaded(model.version_id, model.plan.load_s, model.plan.memory_bytes)

    def wake(self) -> None:
        """Make threads that sleep look at their stop event."""
        self.sessions.wake()
        self.stock.wake()

    def close(self) -> None:
        """When nothing runs any more, or what runs never ends."""
        self.crew.close()
        self.finisher.close()
        self.costs.save()
        self.sessions.close()
        if self.passes.busy():
            return  # the device hangs: who is on it stays in the ledger, to be blamed
        self.versions.forget_all()
        self.ledger.close()
