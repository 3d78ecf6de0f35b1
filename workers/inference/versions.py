"""The versions loaded on this device, and the thread that loads them.

Loading never happens on the device thread: batches of loaded versions go on meanwhile. Whoever
needs a version asks for it and is poked when there is news; ids of a version that is not there
wait unclaimed. What is pushed is loaded by the prober without waiting for a job. Who leaves when
memory or places are short is ``residence``'s to decide.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum

from storage.clock import Clock
from storage.database import Database
from storage.records.jobs import JobError
from storage.records.models import ModelVersion, VersionState
from workers.inference.artifacts import Artifacts
from workers.inference.gate import TROUBLE
from workers.inference.ports import DeviceOutOfMemory, LoadedModel, ModelBroken, Runtime
from workers.inference.residence import Resident, Room

log = logging.getLogger(__name__)

_CODE = re.compile(r"[a-z][a-z_]*")
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 60.0
_PROBE_PATIENCE_S = 10.0  # a pushed version waits so long for room, then it is like any other
_LOOK_AGAIN_S = 0.1


class Standing(Enum):
    """What is known of a version here."""

    UNKNOWN = "unknown"  # not asked for yet, or dropped from memory
    WANTED = "wanted"  # waits for the loader
    LOADED = "loaded"
    NOBODYS = "nobody's"  # no such version, or one in training: a forged or very old message
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


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who wants to know of loads, and whom to ask who waits. All are called on the loader."""

    loading: Callable[[str | None], None] = lambda version_id: None  # None when it is over
    loaded: Callable[[LoadedModel], None] = lambda model: None  # before its first batch can run
    evicted: Callable[[str], None] = lambda version_id: None
    waiting: Callable[[], Collection[str]] = tuple  # versions whose jobs wait to be claimed
    beside: Callable[[str], AbstractContextManager[None]] = lambda version_id: nullcontext()


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
        budget_bytes: int | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        """``budget_bytes`` is asked of the runtime when it is not given."""
        self._database, self._artifacts, self._runtime = database, artifacts, runtime
        self._clock, self._on_news = clock, on_news
        self._max_models, self._budget_bytes = max_models, budget_bytes
        self._watchers = watchers or Watchers()
        self._lock = threading.Condition()  # re-entrant
        self._loaded: OrderedDict[str, Resident] = OrderedDict()
        self._users: dict[int, int] = {}
        self._retired: dict[int, LoadedModel] = {}
        self._standing: dict[str, Standing] = {}
        self._not_before_s: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}
        self._urgent: deque[str] = deque()  # jobs wait for them
        self._probes: deque[str] = deque()
        self._asked_s: dict[str, float] = {}
        self._need_bytes: dict[str, int] = {}  # what it held last time, or its artifact's size

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
            if standing is Standing.WANTED and urgent and version_id in self._probes:
                self._probes.remove(version_id)
                self._urgent.append(version_id)
            if standing in (Standing.LOADED, Standing.WANTED, Standing.BROKEN):
                return
            if self._clock.monotonic_s() < self._not_before_s.get(version_id, 0.0):
                return
            self._standing[version_id] = Standing.WANTED
            self._asked_s[version_id] = self._clock.monotonic_s()
            (self._urgent if urgent else self._probes).append(version_id)
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
            resident = self._loaded.get(version_id)
            if resident is None:
                return None
            resident.used_s = self._clock.monotonic_s()
            self._loaded.move_to_end(version_id)
            return self.share(resident.model)

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
            if id(model) not in self._retired:
                return
        model.close()
        with self._lock:  # only now: nothing is loaded into its place while it is still there
            self._retired.pop(id(model), None)
            self._lock.notify_all()

    def run(self, stop: threading.Event) -> None:
        """The loader: one version at a time, until ``stop``."""
        while not stop.is_set():
            with self._lock:
                queue = self._urgent or self._probes
                if not queue:
                    self._lock.wait(0.5)
                    continue
                version_id, urgent = queue.popleft(), queue is self._urgent
            try:
                done = self._load(version_id, urgent)
            except Exception as trouble:
                self._out_of_reach(version_id, trouble)
                done = True
            if done:
                self._asked_s.pop(version_id, None)
                self._on_news()
                continue
            with self._lock:  # no room yet: it keeps its place
                (self._urgent if urgent else self._probes).appendleft(version_id)
                self._lock.wait(_LOOK_AGAIN_S)

    def forget_all(self) -> None:
        """Close every model; only when nothing runs any more."""
        with self._lock:
            models = [resident.model for resident in self._loaded.values()]
            models += self._retired.values()
            self._loaded.clear()
            self._retired.clear()
            self._standing.clear()
        for model in models:
            model.close()

    def _load(self, version_id: str, urgent: bool) -> bool:
        """Whether it came to an end; if not, there is no room yet."""
        urgent = urgent or self._waited_s(version_id) > _PROBE_PATIENCE_S
        if version_id in self._need_bytes and not self._make_room(version_id, urgent):
            return False
        with self._database.read() as tx:
            version = tx.models.by_id(version_id)
        if version is None:
            log.error("no version %s is known; what named it is dropped", version_id)
            self._set(version_id, Standing.NOBODYS)
            return True
        if version.state is VersionState.TRAINING:
            log.error("version %s has no artifact yet; what named it is dropped", version_id)
            self._set(version_id, Standing.NOBODYS)
            return True
        if version.state is VersionState.BROKEN:
            self._fail_jobs(version, _stored_error(version))
            return True
        if version.collected_at is not None:  # until then what was queued before is answered
            self._fail_jobs(version, _gone(version))
            return True
        if version_id not in self._need_bytes:
            self._need_bytes[version_id] = version.size_bytes
            if not self._make_room(version_id, urgent):
                return False
        try:
            model = self._open(version)
        except ModelBroken as broken:
            self._broken(version, JobError(broken.stable_code, broken.message))
            return True
        try:
            if version.state is VersionState.PENDING:
                with self._database.begin() as tx:
                    tx.models.mark_ready(version.id, model.signature.to_json())
            self._keep(model)
        except BaseException:
            if not self.is_loaded(version_id):
                model.close()
            raise
        return True

    def _open(self, version: ModelVersion) -> LoadedModel:
        artifact = self._artifacts.fetch(version)
        with self._watchers.beside(version.id):
            self._watchers.loading(version.id)
            try:
                return self._runtime.load(version, artifact)
            except DeviceOutOfMemory:
                if not self._clear_idle():
                    raise
                return self._runtime.load(version, artifact)
            finally:
                self._watchers.loading(None)

    def _keep(self, model: LoadedModel) -> None:
        self._watchers.loaded(model)
        now_s = self._clock.monotonic_s()
        with self._lock:
            self._need_bytes[model.version_id] = model.plan.memory_bytes
            self._loaded[model.version_id] = Resident(model, now_s, now_s)
            self._standing[model.version_id] = Standing.LOADED
            self._pause_s.pop(model.version_id, None)
        # It may have turned out larger than it was thought to be.
        room = self._room()
        while not room.fits([resident.model for resident in self._loaded.values()]):
            if not self._clear_idle(1, but=model.version_id):
                break

    def _make_room(self, version_id: str, urgent: bool) -> bool:
        """Whether it may be loaded now; whoever has to leave for it has left."""
        residents = self._residents()
        with self._lock:
            going = self._room().leaving(
                residents,
                list(self._retired.values()),
                self._need_bytes[version_id],
                self._clock.monotonic_s(),
                urgent=urgent,
            )
            idle = [self._leave(resident) for resident in going or ()]
            in_use = bool(self._retired)
        _close(idle)
        return going is not None and not (going and in_use)

    def _clear_idle(self, most: int | None = None, *, but: str | None = None) -> int:
        """Let go what nobody uses or waits for, the least recently used first; how many went."""
        idle = [
            resident
            for resident in self._residents()
            if not resident.has_work and resident.model.version_id != but
        ]
        with self._lock:
            going = [self._leave(resident) for resident in idle[:most]]
        _close(going)
        return len(going)

    def _residents(self) -> list[Resident]:
        """The least recently used first, with who has work now."""
        waiting = self._watchers.waiting()  # not under our lock: it takes one of its own
        with self._lock:
            for version_id, resident in self._loaded.items():
                used = id(resident.model) in self._users
                resident.has_work = used or version_id in waiting
            return list(self._loaded.values())

    def _leave(self, resident: Resident) -> LoadedModel | None:
        """Under the lock. What is to be closed: a model in use is closed by its last user."""
        model = resident.model
        del self._loaded[model.version_id]
        self._standing[model.version_id] = Standing.UNKNOWN
        log.info("version %s makes room", model.version_id)
        self._watchers.evicted(model.version_id)
        if id(model) not in self._users:
            return model
        self._retired[id(model)] = model
        return None

    def _room(self) -> Room:
        if self._budget_bytes is None:
            self._budget_bytes = self._runtime.memory_budget_bytes()
        return Room(self._max_models, self._budget_bytes)

    def _waited_s(self, version_id: str) -> float:
        now_s = self._clock.monotonic_s()
        return now_s - self._asked_s.get(version_id, now_s)

    def _broken(self, version: ModelVersion, error: JobError) -> None:
        """Also when it was ready once: its jobs fail here and now, so no more may be taken."""
        log.warning("%s:%d is broken: %s", version.name, version.version, error.code)
        with self._database.begin() as tx:
            tx.models.mark_broken(version.id, f"{error.code}: {error.message}", even_ready=True)
        self._fail_jobs(version, error)

    def _fail_jobs(self, version: ModelVersion, error: JobError) -> None:
        while True:
            with self._database.begin() as tx:
                tx.trials.give_up(version.id, f"it cannot be served: {error.code}")
                if tx.jobs.fail_version(version.id, error) == 0:
                    break
        self._set(version.id, Standing.BROKEN)

    def _set(self, version_id: str, standing: Standing) -> None:
        with self._lock:
            self._standing[version_id] = standing

    def _out_of_reach(self, version_id: str, trouble: Exception) -> None:
        expected = isinstance(trouble, (*TROUBLE, DeviceOutOfMemory))
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


def _close(models: Sequence[LoadedModel | None]) -> None:
    """Outside the lock: it takes a while."""
    for model in models:
        if model is not None:
            model.close()


def _stored_error(version: ModelVersion) -> JobError:
    """What ``_broken`` wrote, as it was before."""
    code, colon, message = (version.error or "").partition(": ")
    if colon and _CODE.fullmatch(code):
        return JobError(code, message)
    return JobError("model_broken", version.error or "the model is broken")


def _gone(version: ModelVersion) -> JobError:
    return JobError(
        "version_deleted",
        f"{version.name}:{version.version} was deleted, and its artifact with it: submit the job"
        " for another version",
    )


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
