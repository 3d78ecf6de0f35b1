"""The REST service in this process, on a real port, over real parts; workers are played by hand.

``ApiHouse`` is what a composition root puts together, less the worker: ``work`` claims and commits
jobs through the same verbs, so that a test decides when and how each job ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import orjson

from producers.api.app import ApiServer, create_app
from producers.api.news import OpenNews
from producers.api.parts import ApiParts
from producers.express import Express
from producers.keys import KEY_BITS, make_key
from producers.registry import push_version
from producers.settings import ApiSettings
from storage.clock import SystemClock, random_bits
from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter, pack_key, retention_day
from storage.records.ids import uuid7
from storage.records.jobs import JobError, Outcome, Verdict
from storage.records.packs import NewPack, PackKind
from storage.records.sessions import NewSession
from tests.support.archives import archive, input_layer, layer, sequential

LEASE_MS = 60_000


def new_id() -> str:
    return uuid7(SystemClock().now_ms(), random_bits(80))


@dataclass
class ApiHouse:
    """``mode`` says which parts; ``tenant`` is ``default``, whom a keyless caller is."""

    mode: str
    database: Database
    objects: Objects
    folder: Path
    settings: ApiSettings = field(default_factory=ApiSettings)
    poke: Callable[[], None] = lambda: None
    broker_trouble: Callable[[], str | None] = lambda: None
    tenant: str = "default"
    url: str = ""
    express: Express | None = None
    news: OpenNews | None = None  # else the database's, if it has any

    def start(self, **changes: Any) -> None:
        """Listen. ``changes`` are settings other than the usual."""
        parts = ApiParts(
            self.database,
            self.objects,
            poke=lambda: self.poke(),
            broker_trouble=lambda: self.broker_trouble(),
            express=self.express,
            news=self.news or self.database.listen,
            settings=replace(self.settings, **changes),
        )
        self.app = create_app(parts)
        self._server = ApiServer(self.app, "127.0.0.1", 0)
        ready = threading.Event()

        def on_ready(url: str) -> None:
            self.url = url
            ready.set()

        self._thread = threading.Thread(target=self._server.run, args=(on_ready,), name="api")
        self._thread.start()
        assert ready.wait(20), "the service did not start"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def stop(self) -> None:
        self.http.close()
        self._server.stop()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the service did not stop"

    @property
    def service(self) -> Any:
        return self.app.state.service

    def client(self, key: str | None = None, **more: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, **more)

    def key_for(self, tenant: str) -> str:
        """A fresh key, as ``forebay keys create`` makes one."""
        new = make_key(random_bits(KEY_BITS))
        with self.database.begin() as tx:
            tx.tenants.ensure(tenant)
            tx.tenants.add_key(tenant, new_id(), new.key_hash, new.prefix)
        return new.secret

    def push(self, name: str = "vectors", tenant: str = "default", **options: Any) -> Any:
        """A model that takes four numbers, by the registry's own way."""
        file = self.folder / f"{name}.keras"
        config = sequential(input_layer("x", (None, 4)), layer("Dense", name="d", units=2))
        file.write_bytes(archive(config).getvalue())
        with self.database.begin() as tx:
            tx.tenants.ensure(tenant)
        return push_version(
            self.database, self.objects, tenant, name, file, options or None
        ).version

    def submit(self, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        body = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}, **fields}
        response = (client or self.http).post("/v1/jobs", json=body)
        assert response.status_code == 202, response.text
        return response.json()

    def session(self, pool: str = "default") -> str:
        """A live worker session."""
        id_ = new_id()
        with self.database.begin() as tx:
            tx.sessions.open(NewSession(id_, f"w@{id_[:8]}", "here", "cpu", pool), LEASE_MS)
        return id_

    def publish(self, ids: Sequence[str]) -> None:
        with self.database.begin() as tx:
            tx.backlog.mark_published(ids)

    def claim(self, ids: Sequence[str], session: str | None = None) -> tuple[str, list[Any]]:
        """Take jobs as a worker does."""
        session = session or self.session()
        self.publish(ids)
        with self.database.begin() as tx:
            return session, list(tx.jobs.claim(session, ids))

    def work(
        self,
        ids: Iterable[str],
        answer: Callable[[str], Any] = lambda job_id: {"outputs": {"y": [0.5]}},
    ) -> None:
        """Claim and finish jobs. ``answer`` gives a result, or a ``JobError``."""
        session, claims = self.claim(list(ids))
        self.finish(session, claims, answer)

    def finish(self, session: str, claims: Sequence[Any], answer: Callable[[str], Any]) -> None:
        pack_id = new_id()
        writer = PackWriter(pack_id)
        outcomes = []
        for claim in claims:
            found = answer(claim.id)
            if isinstance(found, JobError):
                outcomes.append(Outcome(claim.id, claim.epoch, Verdict.FAILED, True, error=found))
            else:
                slice_ = writer.add(claim.id, orjson.dumps(found))
                outcomes.append(
                    Outcome(claim.id, claim.epoch, Verdict.SUCCEEDED, True, result=slice_)
                )
        packs = []
        if len(writer):
            with self.database.begin() as tx:
                key = pack_key(PackKind.RESULT, self.tenant, retention_day(tx.now(), 30), pack_id)
                tx.packs.open(NewPack(pack_id, self.tenant, PackKind.RESULT, key))
            data, summary = writer.finish()
            self.objects.put(key, data)
            packs.append(summary)
        with self.database.begin() as tx:
            tx.jobs.commit(session, outcomes, packs=packs)
