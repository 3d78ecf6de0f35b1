"""The versions loaded on this device, and the thread that loads them.

Loading never happens on the device thread: batches of loaded versions go on meanwhile. Whoever
needs a version asks for it and is poked when there is news; ids of a version that is not there
wait unclaimed. What is pushed is loaded by the prober without waiting for a job.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum

from storage.clock import Clock
from storage.database import Database
from storage.records.jobs import JobError
from storage.records.models import ModelVersion, VersionState
from workers.inference.artifacts import Artifacts
from workers.inference.gate import TROUBLE
from workers.inference.ports import LoadedModel, ModelBroken, Runtime

log = logging.getLogger(__name__)

_CODE = re.compile(r"[a-z][a-z_]*")
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 60.0


class Standing(Enum):
    """What is known of a version here."""

    UNKNOWN = "unknown"  # not asked for yet, or dropped from memory
    WANTED = "wanted"  # waits for the loader
    LOADED = "loaded"
    NOBODYS = "nobody's"  # there is no such version: a forged or very old message
    BROKEN = "broken"  # can never be served; its jobs are failed in SQL
    OUT_OF_REACH = "out of reach"  # infrastructure trouble: tried again after a pause


class Lease:
    """A loaded model in use: it is not closed before ``release``."""

    def __init__(self, versions: Versions, model: LoadedModel) -> None:
        self._versions, self.model = versions, model

    def share(self) -> Lease:
        """One more user of the same model, to be released by itself."""
        return self._versions.share(self.model)

    def release(self) -> None:
        self._versions.release(self.model)


class Versions:
    """Loaded models, least recently used first."""

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        runtime: Runtime,
        clock: Clock,
        *,
        max_models: int,
        on_news: Callable[[], None],
    ) -> None:
        self._database, self._artifacts, self._runtime = database, artifacts, runtime
        self._clock, self._max, self._on_news = clock, max_models, on_news
        self._lock = threading.Condition()  # re-entrant
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._users: dict[int, int] = {}
        self._retired: dict[int, LoadedModel] = {}
        self._standing: dict[str, Standing] = {}
        self._not_before_s: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}
        self._wanted: deque[str] = deque()

    def standing(self, version_id: str) -> Standing:
        with self._lock:
            return self._standing.get(version_id, Standing.UNKNOWN)

    def is_loaded(self, version_id: str) -> bool:
        """Whether a batch of it could run now."""
        return version_id in self._loaded

    def want(self, version_id: str, *, urgent: bool = True) -> None:
        """Ask for it; what jobs wait for goes before what is only probed."""
        with self._lock:
            standing = self._standing.get(version_id, Standing.UNKNOWN)
            if standing in (Standing.LOADED, Standing.WANTED, Standing.BROKEN):
                return
            if self._clock.monotonic_s() < self._not_before_s.get(version_id, 0.0):
                return
            self._standing[version_id] = Standing.WANTED
            (self._wanted.appendleft if urgent else self._wanted.append)(version_id)
            self._lock.notify_all()

    def forget(self, version_id: str) -> None:
        """Remember nothing of a version that does not exist."""
        with self._lock:
            self._standing.pop(version_id, None)

    def reconsider(self, version_id: str) -> None:
        """Ids came for a broken version: look at it again, and fail what was queued since."""
        with self._lock:
            if self._standing.get(version_id) is Standing.BROKEN:
                self._standing[version_id] = Standing.UNKNOWN
        self.want(version_id)

    def acquire(self, version_id: str) -> Lease | None:
        """The loaded model, kept loaded until released; None when it is not there."""
        with self._lock:
            model = self._loaded.get(version_id)
            if model is None:
                return None
            self._loaded.move_to_end(version_id)
            return self.share(model)

    def share(self, model: LoadedModel) -> Lease:
        with self._lock:
            self._users[id(model)] = self._users.get(id(model), 0) + 1
        return Lease(self, model)

    def release(self, model: LoadedModel) -> None:
        with self._lock:
            self._users[id(model)] -= 1
            if self._users[id(model)]:
                return
            del self._users[id(model)]
            idle = self._retired.pop(id(model), None)
        if idle is not None:
            idle.close()

    def run(self, stop: threading.Event) -> None:
        """The loader: one version at a time, until ``stop``."""
        while not stop.is_set():
            with self._lock:
                if not self._wanted:
                    self._lock.wait(0.5)
                    continue
                version_id = self._wanted.popleft()
            try:
                self._load(version_id)
            except Exception as trouble:
                self._out_of_reach(version_id, trouble)
            self._on_news()

    def forget_all(self) -> None:
        """Close every model; only when nothing runs any more."""
        with self._lock:
            models = [*self._loaded.values(), *self._retired.values()]
            self._loaded.clear()
            self._retired.clear()
            self._standing.clear()
        for model in models:
            model.close()

    def _load(self, version_id: str) -> None:
        with self._database.read() as tx:
            version = tx.models.by_id(version_id)
        if version is None:
            log.error("no version %s is known; what named it is dropped", version_id)
            self._set(version_id, Standing.NOBODYS)
            return
        if version.state is VersionState.BROKEN:
            self._fail_jobs(version, _stored_error(version))
            return
        try:
            model = self._runtime.load(version, self._artifacts.fetch(version))
        except ModelBroken as broken:
            self._broken(version, JobError(broken.stable_code, broken.message))
            return
        if version.state is VersionState.PENDING:
            with self._database.begin() as tx:
                tx.models.mark_ready(version.id, model.signature.to_json())
        self._keep(version_id, model)

    def _keep(self, version_id: str, model: LoadedModel) -> None:
        idle: list[LoadedModel] = []
        with self._lock:
            self._loaded[version_id] = model
            self._standing[version_id] = Standing.LOADED
            self._pause_s.pop(version_id, None)
            while len(self._loaded) > self._max:
                old_id, old = self._loaded.popitem(last=False)
                self._standing[old_id] = Standing.UNKNOWN
                if self._users.get(id(old)):
                    self._retired[id(old)] = old
                else:
                    idle.append(old)
        for old in idle:
            old.close()

    def _broken(self, version: ModelVersion, error: JobError) -> None:
        log.warning("%s:%d is broken: %s", version.name, version.version, error.code)
        with self._database.begin() as tx:
            tx.models.mark_broken(version.id, f"{error.code}: {error.message}")
        self._fail_jobs(version, error)

    def _fail_jobs(self, version: ModelVersion, error: JobError) -> None:
        while True:
            with self._database.begin() as tx:
                if tx.jobs.fail_version(version.id, error) == 0:
                    break
        self._set(version.id, Standing.BROKEN)

    def _set(self, version_id: str, standing: Standing) -> None:
        with self._lock:
            self._standing[version_id] = standing

    def _out_of_reach(self, version_id: str, trouble: Exception) -> None:
        expected = isinstance(trouble, TROUBLE)
        log.warning(
            "version %s cannot be loaded now: %s",
            version_id,
            type(trouble).__name__,
            exc_info=None if expected else trouble,
        )
        with self._lock:
            now_s = self._clock.monotonic_s()
            pause_s = self._pause_s.get(version_id, _FIRST_PAUSE_S)
            self._standing[version_id] = Standing.OUT_OF_REACH
            self._not_before_s[version_id] = now_s + pause_s
            self._pause_s[version_id] = min(2 * pause_s, _LAST_PAUSE_S)


def _stored_error(version: ModelVersion) -> JobError:
    """What ``_broken`` wrote, as it was before."""
    code, colon, message = (version.error or "").partition(": ")
    if colon and _CODE.fullmatch(code):
        return JobError(code, message)
    return JobError("model_broken", version.error or "the model is broken")


class Prober:
    """Finds pushed versions and has them loaded, so that they become ready without any job."""

    def __init__(self, database: Database, versions: Versions, *, every_s: float) -> None:
        self._database, self._versions, self._every_s = database, versions, every_s

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.look()
            except TROUBLE as trouble:
                log.warning("pushed versions cannot be looked for: %s", type(trouble).__name__)
            stop.wait(self._every_s)

    def look(self) -> int:
        """Ask for every pending version; how many there are."""
        with self._database.read() as tx:
            pending = tx.models.pending(limit=20)
        for version in pending:
            self._versions.want(version.id, urgent=False)
        return len(pending)
