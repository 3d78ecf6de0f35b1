"""The unit of work: one transaction, handing out one store per noun."""

from __future__ import annotations

from functools import cached_property

from storage.database.aliases import Aliases
from storage.database.backlog import Backlog
from storage.database.bulk import Bulk
from storage.database.duties import DutyLog
from storage.database.evaluations import Evaluations
from storage.database.files import Files
from storage.database.groups import Groups
from storage.database.idempotency import Idempotency
from storage.database.jobs import Jobs
from storage.database.latency import Latency
from storage.database.lifecycle import Lifecycle
from storage.database.models import Models
from storage.database.packs import Packs
from storage.database.retention import Retention
from storage.database.sessions import Sessions
from storage.database.tenants import Tenants
from storage.database.training import Training
from storage.database.trials import Trials
from storage.database.webhooks import Webhooks
from storage.database.work import Work
from storage.records.jobs import Millis


class Transaction:
    """What ``Database.begin()`` and ``Database.read()`` give. The verbs are the stores'."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def now(self) -> Millis:
        """The database's clock, read once per transaction."""
        return self._work.now()

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs and the transitions of their state machine."""
        return Jobs(self._work)

    @cached_property
    def backlog(self) -> Backlog:
        """Jobs that wait to enter the ready window."""
        return Backlog(self._work)

    @cached_property
    def groups(self) -> Groups:
        """Jobs that were submitted together."""
        return Groups(self._work)

    @cached_property
    def sessions(self) -> Sessions:
        """Worker processes and their leases."""
        return Sessions(self._work)

    @cached_property
    def bulk(self) -> Bulk:
        """Bulk runs, their shards and their parts."""
        return Bulk(self._work)

    @cached_property
    def training(self) -> Training:
        """Training runs, their measures and their logs."""
        return Training(self._work)

    @cached_property
    def packs(self) -> Packs:
        """Objects that hold many small byte strings."""
        return Packs(self._work)

    @cached_property
    def models(self) -> Models:
        """Models and their versions."""
        return Models(self._work)

    @cached_property
    def aliases(self) -> Aliases:
        """What versions are called, and how that changed."""
        return Aliases(self._work)

    @cached_property
    def trials(self) -> Trials:
        """Candidates beside what aliases stand for."""
        return Trials(self._work)

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """What becomes of versions after they were made."""
        return Lifecycle(self._work)

    @cached_property
    def evaluations(self) -> Evaluations:
        """What versions were worth on some data."""
        return Evaluations(self._work)

    @cached_property
    def latency(self) -> Latency:
        """What workers measured of versions."""
        return Latency(self._work)

    @cached_property
    def tenants(self) -> Tenants:
        """Tenants and their keys."""
        return Tenants(self._work)

    @cached_property
    def idempotency(self) -> Idempotency:
        """Requests that may be repeated."""
        return Idempotency(self._work)

    @cached_property
    def files(self) -> Files:
        """Uploaded files."""
        return Files(self._work)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Endpoints, their secrets, events and deliveries."""
        return Webhooks(self._work)

    @cached_property
    def duties(self) -> DutyLog:
        """What keepers got done."""
        return DutyLog(self._work)

    @cached_property
    def retention(self) -> Retention:
        """What was kept long enough."""
        return Retention(self._work)
