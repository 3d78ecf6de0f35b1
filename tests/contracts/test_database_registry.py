"""Models, tenants, keys, files, packs, sessions, idempotency: the smaller nouns."""

from __future__ import annotations

import dataclasses

import pytest

from storage.database import Database
from storage.records.aliases import Why
from storage.records.errors import Conflict, InvalidInput, NotFound
from storage.records.models import (
    Alias,
    ModelFormat,
    ModelRef,
    ModelVersion,
    NewVersion,
    VersionState,
)
from storage.records.packs import NewPack, Pack, PackKind, PackState, PackSummary
from storage.records.sessions import NewSession
from storage.records.tenants import Remembered
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    START_MS,
    claim,
    new_id,
    open_pack,
    open_session,
    submit,
)


def new_version(name: str = "digits", **fields) -> NewVersion:
    version = NewVersion(
        id=new_id(),
        name=name,
        format=ModelFormat.KERAS,
        digest="0" * 64,
        size_bytes=1 << 33,
        object_key=f"models/{name}",
        signature={"inputs": [{"name": "x", "shape": [None, 28]}], "größe": 1.5},
    )
    return dataclasses.replace(version, **fields)


def push(database: Database, tenant: str = ALICE, name: str = "digits", **fields) -> ModelVersion:
    with database.begin() as tx:
        return tx.models.push(tenant, new_version(name, **fields))


def resolve(database: Database, ref: ModelRef, tenant: str = ALICE) -> int:
    with database.read() as tx:
        return tx.models.resolve(tenant, ref).version


def point(tx, tenant, name, alias, version, expected=None):
    """The alias stands for this version, as the API has it moved."""
    tx.models.hold_pointable(tenant, name, version)
    move = tx.aliases.move(tenant, name, alias, version, Why(), expected=expected)
    return Alias(move.name, move.alias, move.to_version, move.generation, move.moved_at)


class TestModels:
    def test_versions_are_numbered_by_tenant_and_name(self, database):
        assert [push(database).version for _ in range(3)] == [1, 2, 3]
        assert push(database, name="cats").version == 1
        assert push(database, BOB).version == 1

    def test_a_version_is_read_back_as_it_was_pushed(self, database):
        pushed = push(database, format=ModelFormat.H5, trusted=True)
        assert pushed.signature == new_version().signature
        assert (pushed.state, pushed.trusted) == (VersionState.PENDING, True)
        assert (pushed.created_at, pushed.loaded_at, pushed.error) == (START_MS, None, None)
        assert pushed.size_bytes == 1 << 33
        with database.read() as tx:
            assert tx.models.by_id(pushed.id) == pushed
            assert tx.models.versions(ALICE, "digits") == [pushed]
            assert tx.models.versions(BOB, "digits") == []

    def test_a_bare_name_means_the_highest_version_that_is_not_broken(self, database):
        _, second, third = push(database), push(database), push(database)
        assert resolve(database, ModelRef("digits")) == 3
        with database.begin() as tx:
            assert tx.models.mark_broken(third.id, "no such layer")
        assert resolve(database, ModelRef("digits")) == 2
        assert resolve(database, ModelRef("digits", version=3)) == 3
        with database.begin() as tx:
            tx.models.mark_ready(second.id, {})
        assert resolve(database, ModelRef("digits")) == 2

    @pytest.mark.parametrize(
        ("ref", "code"),
        [
            (ModelRef("dogs"), "model_not_found"),
            (ModelRef("dogs", version=1), "model_not_found"),
            (ModelRef("dogs", alias="prod"), "model_not_found"),
            (ModelRef("digits", version=2), "version_not_found"),
            (ModelRef("digits", alias="prod"), "alias_not_found"),
        ],
    )
    def test_what_is_not_there_is_named(self, database, ref, code):
        push(database)
        with pytest.raises(NotFound) as missing:
            resolve(database, ref)
        assert (missing.value.stable_code, missing.value.field) == (code, "model")

    def test_a_foreign_tenants_model_is_not_there(self, database):
        push(database)
        with pytest.raises(NotFound) as missing:
            resolve(database, ModelRef("digits"), BOB)
        assert missing.value.stable_code == "model_not_found"
        with database.read() as tx:
            assert tx.models.model(BOB, "digits") is None
            assert tx.models.list(BOB, 10) == []

    def test_a_model_whose_every_version_is_broken_cannot_be_meant_by_name(self, database):
        only = push(database)
        with database.begin() as tx:
            tx.models.mark_broken(only.id, "x\x00y")
        with pytest.raises(NotFound) as missing:
            resolve(database, ModelRef("digits"))
        assert missing.value.stable_code == "version_not_found"

    def test_the_first_load_decides(self, database, clock):
        good, bad = push(database), push(database)
        clock.pass_ms(5)
        with database.begin() as tx:
            assert {one.id for one in tx.models.pending(10)} == {good.id, bad.id}
            assert tx.models.mark_ready(good.id, {"done": True})
            assert tx.models.mark_broken(bad.id, "no")
            assert not tx.models.mark_broken(good.id, "too late")
            assert not tx.models.mark_ready(bad.id, {})
            assert tx.models.pending(10) == []
            ready, broken = tx.models.by_id(good.id), tx.models.by_id(bad.id)
        assert (ready.state, ready.loaded_at) == (VersionState.READY, START_MS + 5)
        assert ready.signature == {"done": True}
        assert (broken.state, broken.error) == (VersionState.BROKEN, "no")

    def test_only_on_purpose_a_version_that_was_ready_breaks(self, database):
        bad, pending = push(database), push(database)
        with database.begin() as tx:
            assert tx.models.mark_ready(bad.id, {})
            assert not tx.models.mark_broken(bad.id, "too late")
            assert tx.models.mark_broken(bad.id, "it kills its workers", even_ready=True)
            assert not tx.models.mark_broken(bad.id, "again", even_ready=True)
            assert tx.models.mark_broken(pending.id, "it did not load", even_ready=True)
            assert not tx.models.mark_ready(bad.id, {})
            broken = tx.models.by_id(bad.id)
        assert (broken.state, broken.error) == (VersionState.BROKEN, "it kills its workers")
        assert broken.loaded_at is None

    def test_aliases_move_and_say_how_often(self, database, clock):
        push(database), push(database)
        with database.begin() as tx:
            first = point(tx, ALICE, "digits", "prod", 1)
        clock.pass_ms(9)
        with database.begin() as tx:
            second = point(tx, ALICE, "digits", "prod", 2)
        assert (first.version, first.generation, first.updated_at) == (1, 1, START_MS)
        assert (second.version, second.generation, second.updated_at) == (2, 2, START_MS + 9)
        assert resolve(database, ModelRef("digits", alias="prod")) == 2
        with database.read() as tx:
            assert tx.aliases.of_model(ALICE, "digits") == [second]
            assert tx.aliases.of_model(BOB, "digits") == []
            assert tx.models.model(ALICE, "digits").aliases == {"prod": 2}

    def test_an_alias_moves_only_from_where_the_caller_thinks_it_is(self, database):
        push(database), push(database)
        with database.begin() as tx:
            point(tx, ALICE, "digits", "prod", 1)
        with database.begin() as tx:
            assert point(tx, ALICE, "digits", "prod", 2, expected=1).version == 2
        for alias in ("prod", "new"):
            with pytest.raises(Conflict) as refused, database.begin() as tx:
                point(tx, ALICE, "digits", alias, 2, expected=1)
            assert refused.value.stable_code == "alias_moved"

    def test_an_alias_needs_a_version_that_is_there(self, database):
        push(database)
        with pytest.raises(NotFound) as missing, database.begin() as tx:
            point(tx, ALICE, "digits", "prod", 7)
        assert missing.value.stable_code == "version_not_found"
        with pytest.raises(NotFound), database.begin() as tx:
            point(tx, BOB, "digits", "prod", 1)

    def test_models_are_listed_by_name_page_by_page(self, database):
        for name in ("cats", "digits", "apes", "digits"):
            push(database, name=name)
        push(database, BOB, name="bees")
        with database.begin() as tx:
            point(tx, ALICE, "digits", "prod", 1)
        with database.read() as tx:
            first = tx.models.list(ALICE, 2)
            rest = tx.models.list(ALICE, 2, after="cats")
        assert [one.name for one in first] == ["apes", "cats"]
        assert [(m.name, m.latest_version, m.versions, m.aliases) for m in rest] == [
            ("digits", 2, 2, {"prod": 1})
        ]


class TestTenants:
    def test_a_key_leads_to_its_tenant_until_it_is_revoked(self, database, clock):
        key_id = new_id()
        with database.begin() as tx:
            tx.tenants.ensure(ALICE)
            tx.tenants.ensure(ALICE)
            tx.tenants.ensure(BOB)
            tx.tenants.add_key(ALICE, key_id, "hash-a", "fb_a")
            tx.tenants.add_key(BOB, new_id(), "hash-b", "fb_b")
        with database.read() as tx:
            assert tx.tenants.by_key_hash("hash-a") == ALICE
            assert tx.tenants.by_key_hash("hash-b") == BOB
            assert tx.tenants.by_key_hash("hash-c") is None
            assert [key.id for key in tx.tenants.keys(ALICE)] == [key_id]
            assert len(tx.tenants.keys()) == 2
        clock.pass_ms(3)
        with database.begin() as tx:
            assert tx.tenants.revoke(key_id)
            assert not tx.tenants.revoke(key_id)
            assert not tx.tenants.revoke("no id")
            assert tx.tenants.by_key_hash("hash-a") is None
            (key,) = tx.tenants.keys(ALICE)
        assert (key.prefix, key.revoked_at) == ("fb_a", START_MS + 3)

    def test_the_same_key_cannot_be_two_tenants(self, database):
        with database.begin() as tx:
            tx.tenants.ensure(ALICE)
            tx.tenants.ensure(BOB)
            tx.tenants.add_key(ALICE, new_id(), "hash", "fb_")
        with pytest.raises(Conflict), database.begin() as tx:
            tx.tenants.add_key(BOB, new_id(), "hash", "fb_")

    @pytest.mark.parametrize("name", ["", "Alice", "a b", "x" * 64, "a\x00"])
    def test_a_tenants_name_is_a_name(self, database, name):
        with pytest.raises(InvalidInput), database.begin() as tx:
            tx.tenants.ensure(name)


class TestIdempotency:
    def test_a_key_is_remembered_for_its_tenant_and_its_time(self, database, clock):
        def remember(tenant: str, fingerprint: str, ref: str) -> Remembered | None:
            with database.begin() as tx:
                return tx.idempotency.remember(tenant, "key", fingerprint, ref, 1_000)

        assert remember(ALICE, "f1", "r1") is None
        assert remember(ALICE, "f2", "r2") == Remembered("f1", "r1")
        assert remember(BOB, "f3", "r3") is None
        clock.pass_ms(999)
        assert remember(ALICE, "f4", "r4") == Remembered("f1", "r1")
        clock.pass_ms(1)
        with database.read() as tx:
            assert tx.idempotency.recall(ALICE, "key") is None
        assert remember(ALICE, "f5", "r5") is None
        with database.read() as tx:
            assert tx.idempotency.recall(ALICE, "key") == Remembered("f5", "r5")

    def test_a_key_goes_with_the_transaction_it_came_in(self, database):
        with pytest.raises(ZeroDivisionError), database.begin() as tx:
            tx.idempotency.remember(ALICE, "key", "f", "r", 1_000)
            raise ZeroDivisionError
        with database.begin() as tx:
            assert tx.idempotency.remember(ALICE, "key", "f2", "r2", 1_000) is None

    def test_keys_past_their_time_are_forgotten_in_steps(self, database, clock):
        with database.begin() as tx:
            for index in range(5):
                tx.idempotency.remember(ALICE, f"key-{index}", "f", "r", 1_000)
            tx.idempotency.remember(ALICE, "later", "f", "r", 2_000)
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert [tx.idempotency.forget_expired(limit=3) for _ in range(3)] == [3, 2, 0]
            assert tx.idempotency.recall(ALICE, "later") is not None

    def test_a_key_with_nul_is_refused(self, database):
        with pytest.raises(InvalidInput), database.begin() as tx:
            tx.idempotency.remember(ALICE, "a\x00b", "f", "r", 1_000)


class TestFiles:
    def test_a_file_is_its_tenants_alone(self, database):
        with database.begin() as tx:
            stored = tx.files.add(
                ALICE,
                id=new_id(),
                filename="bild ü.png",
                content_type="image/png",
                object_key="files/1",
                size_bytes=12,
                digest="ab",
            )
        with database.read() as tx:
            assert tx.files.get(ALICE, stored.id) == stored
            assert tx.files.get(BOB, stored.id) is None
        assert (stored.tenant, stored.created_at) == (ALICE, START_MS)

    def test_they_are_listed_by_pages_in_either_order(self, database):
        def add(tenant):
            one = new_id()
            tx.files.add(
                tenant,
                id=one,
                filename="a",
                content_type="b/c",
                object_key=f"files/{one}",
                size_bytes=1,
                digest="ab",
            )
            return one

        with database.begin() as tx:
            mine = [add(tenant) for tenant in (ALICE, BOB) * 5][::2]

        def listed(limit, after=None, **order):
            with database.read() as tx:
                return [file.id for file in tx.files.list(ALICE, limit, after, **order)]

        assert listed(10) == mine[::-1] and listed(10, oldest_first=True) == mine
        assert listed(2, mine[3]) == [mine[2], mine[1]]
        assert listed(2, mine[1], oldest_first=True) == [mine[2], mine[3]]
        assert listed(2, mine[0]) == listed(2, mine[4], oldest_first=True) == []


class TestPacks:
    def test_a_pack_is_written_lives_and_cannot_be_doomed_by_age_any_more(self, database, clock):
        pack_id = new_id()
        with database.begin() as tx:
            tx.packs.open(NewPack(pack_id, ALICE, PackKind.INPUT, "in/1"))
            assert tx.packs.get(pack_id).state is PackState.WRITING
            assert tx.packs.publish(PackSummary(pack_id, 3, 99))
            assert not tx.packs.publish(PackSummary(pack_id, 3, 99))
        clock.pass_ms(10**6)
        with database.begin() as tx:
            assert tx.packs.doom_stale(1) == []
            assert tx.packs.get(pack_id) == Pack(
                pack_id, ALICE, PackKind.INPUT, "in/1", PackState.LIVE, 3, 99, START_MS
            )

    def test_a_stale_pack_is_doomed_then_forgotten_and_never_lives(self, database, clock):
        stale = [open_pack(database), open_pack(database, BOB)]
        clock.pass_ms(100)
        fresh = open_pack(database)
        with database.begin() as tx:
            assert {one.id for one in tx.packs.doom_stale(100)} == set(stale)
            assert tx.packs.doom_stale(100) == []
            assert not tx.packs.publish(PackSummary(stale[0], 1, 1))
            doomed = tx.packs.doomed()
            assert {(one.id, one.tenant, one.state) for one in doomed} == {
                (stale[0], ALICE, PackState.DOOMED),
                (stale[1], BOB, PackState.DOOMED),
            }
            assert tx.packs.forget([*stale, fresh]) == 2
            assert tx.packs.get(stale[0]) is None
            assert tx.packs.get(fresh).state is PackState.WRITING

    def test_two_packs_cannot_share_an_object(self, database):
        with database.begin() as tx:
            tx.packs.open(NewPack(new_id(), ALICE, PackKind.INPUT, "in/1"))
        with pytest.raises(Conflict), database.begin() as tx:
            tx.packs.open(NewPack(new_id(), BOB, PackKind.INPUT, "in/1"))


class TestSessions:
    def test_a_lease_is_renewed_until_it_has_passed_and_never_after(self, database, clock):
        session = open_session(database)
        clock.pass_ms(LEASE_MS - 1)
        with database.begin() as tx:
            assert tx.sessions.renew(session, LEASE_MS, 12.5)
            (live,) = tx.sessions.live()
        assert (live.id, live.jobs_per_s) == (session, 12.5)
        assert (live.started_at, live.lease_until) == (START_MS, START_MS + 2 * LEASE_MS - 1)
        clock.pass_ms(LEASE_MS)
        with database.begin() as tx:
            assert tx.sessions.live() == []
            assert not tx.sessions.renew(session, LEASE_MS, 1.0)
            assert not tx.sessions.renew(new_id(), LEASE_MS, 1.0)

    def test_what_a_process_counted_stays_until_it_says_otherwise(self, database):
        session, other = open_session(database), open_session(database)
        said = {"batches": 3, "stages": {"decode": [1, 0.25]}, "имя": "worker-1"}

        def stats() -> list[object]:
            with database.read() as tx:
                return [one.stats for one in tx.sessions.live()]

        assert stats() == [{}, {}]
        with database.begin() as tx:
            assert tx.sessions.renew(session, LEASE_MS, 1.0, said)
        assert stats() == [said, {}]
        with database.begin() as tx:
            assert tx.sessions.renew(session, LEASE_MS, 1.0)
            tx.sessions.close(other, {"batches": 9})
        assert stats() == [said]

    def test_live_sessions_are_listed_by_pool(self, database):
        with database.begin() as tx:
            opened = tx.sessions.open(NewSession(new_id(), "n1", "h", "gpu:0", "gpu"), LEASE_MS)
        other = open_session(database)
        with database.read() as tx:
            assert tx.sessions.live("gpu") == [opened]
            assert [one.id for one in tx.sessions.live()] == sorted([opened.id, other])
            assert tx.sessions.live("tpu") == []

    def test_a_closed_session_is_over(self, database):
        session = open_session(database)
        with database.begin() as tx:
            tx.sessions.close(session)
            tx.sessions.close(session)
            assert tx.sessions.live() == []
            assert not tx.sessions.renew(session, LEASE_MS, 1.0)

    def test_sessions_that_ended_long_ago_are_forgotten_unless_they_run_something(
        self, database, clock
    ):
        busy, idle = open_session(database), open_session(database)
        claim(database, busy, submit(database))
        with database.begin() as tx:
            tx.sessions.close(busy)
            tx.sessions.close(idle)
            assert tx.sessions.forget(1) == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.sessions.forget(1) == 1
            assert tx.jobs.reap() == 1
            assert tx.sessions.forget(1) == 1
