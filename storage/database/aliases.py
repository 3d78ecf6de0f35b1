"""Aliases: names for versions that move atomically, each move kept.

An alias's own row is held while it moves, and so is the version that it is to stand for: nobody
moves it meanwhile, and nobody deletes what it stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.records.aliases import AliasMove, MoveReason, Why, to_undo
from storage.records.errors import Conflict, NotFound
from storage.records.models import Alias

_ALIAS = "a.name, a.alias, a.version, a.generation, a.updated_at"

OF_MODEL = Statement(
    "The aliases of a name.",
    f"""
    SELECT {_ALIAS} FROM aliases AS a WHERE a.tenant = :tenant AND a.name = :name ORDER BY a.alias
    """,
)

HOLD = Statement(
    "Where an alias stands; nobody moves it until this transaction ends.",
    f"""
    SELECT {_ALIAS} FROM aliases AS a
    WHERE a.tenant = :tenant AND a.name = :name AND a.alias = :alias {{own}}
    """,
)

MAKE = Statement(
    "An alias is made, unless somebody else just made it.",
    """
    INSERT INTO aliases (tenant, name, alias, version, generation, updated_at)
    VALUES (:tenant, :name, :alias, :version, 1, :now)
    ON CONFLICT (tenant, name, alias) DO NOTHING
    RETURNING name, alias, version, generation, updated_at
    """,
)

MOVE = Statement(
    "An alias moves, if it is where it was seen.",
    """
    UPDATE aliases SET version = :version, generation = generation + 1, updated_at = :now
    WHERE tenant = :tenant AND name = :name AND alias = :alias AND generation = :generation
    RETURNING name, alias, version, generation, updated_at
    """,
)

RECORD = Statement(
    "Where it went, and why.",
    """
    INSERT INTO alias_moves (tenant, name, alias, generation, from_version, to_version, why, undoes,
        gate, seen, note, moved_by, moved_at)
    VALUES (:tenant, :name, :alias, :generation, CAST(:from_version AS integer), :version, :why,
        CAST(:undoes AS integer), :gate, :seen, :note, :moved_by, :now)
    """,
)

HISTORY = Statement(
    "The moves of a model's alias, the last first.",
    """
    SELECT m.name, m.alias, m.generation, m.from_version, m.to_version, m.why, m.undoes, m.gate,
        m.seen, m.note, m.moved_by, m.moved_at
    FROM alias_moves AS m
    WHERE m.tenant = :tenant AND m.name = :name AND m.alias = :alias AND m.generation < :before
    ORDER BY m.generation DESC LIMIT :limit
    """,
)

LAST = 2**31 - 1  # generation
_MOST_UNDONE = 1_000  # moves that a rollback looks back


class Aliases(Store):
    """Where names stand."""

    def of_model(self, tenant: str, name: str) -> list[Alias]:
        """The aliases of a model."""
        return [_alias_of(row) for row in self._work.rows(OF_MODEL, tenant=tenant, name=name)]

    def hold(self, tenant: str, name: str, alias: str) -> Alias | None:
        """Where it stands, until this transaction ends."""
        rows = self._work.change(HOLD, tenant=tenant, name=name, alias=alias)
        return _alias_of(rows[0]) if rows else None

    def move(
        self,
        tenant: str,
        name: str,
        alias: str,
        version: int,
        why: Why,
        *,
        expected: int | None = None,
        generation: int | None = None,
    ) -> AliasMove:
        """Make or move an alias, atomically, and keep that it moved. The version was held before
        (``models.hold_pointable``).

        With ``expected`` only if it stands for that version now, with ``generation`` only if it
        did not move since it was that; else ``Conflict`` with code ``alias_moved``. To move it
        where it stands changes nothing: the move that led there is the answer.
        """
        work = self._work
        key = {"tenant": tenant, "name": name, "alias": alias}
        before = self.hold(tenant, name, alias)
        if before is None and expected is None and not generation:
            made = work.change(MAKE, **key, version=version, now=work.now())
            if made:
                return self._record(key, _alias_of(made[0]), None, why)
            before = self.hold(tenant, name, alias)
        check_unmoved(name, alias, before, expected, generation)
        assert before is not None
        if before.version == version:
            return self.history(tenant, name, alias, limit=1)[0]
        (row,) = work.change(
            MOVE, **key, version=version, generation=before.generation, now=work.now()
        )
        return self._record(key, _alias_of(row), before.version, why)

    def undoable(self, tenant: str, name: str, alias: str) -> AliasMove:
        """The move that a rollback takes back. ``NotFound`` without the alias; ``Conflict`` with
        code ``nothing_to_roll_back`` where no move is known that was not taken back."""
        if self.hold(tenant, name, alias) is None:
            raise NotFound(
                f"model {name!r} has no alias {alias!r}", code="alias_not_found", field="alias"
            )
        found = to_undo(self.history(tenant, name, alias, limit=_MOST_UNDONE))
        if found is None:
            raise Conflict(
                f"alias {alias!r} of {name!r} has no move that could be taken back: see its"
                " history",
                code="nothing_to_roll_back",
                field="alias",
            )
        return found

    def history(
        self, tenant: str, name: str, alias: str, *, limit: int, before: int = LAST
    ) -> Sequence[AliasMove]:
        """Its moves, the last first; those that led to a generation below ``before``."""
        rows = self._work.rows(
            HISTORY, tenant=tenant, name=name, alias=alias, limit=limit, before=before
        )
        return [_move_of(row) for row in rows]

    def _record(
        self, key: dict[str, str], now: Alias, from_version: int | None, why: Why
    ) -> AliasMove:
        self._work.count(
            RECORD,
            **key,
            generation=now.generation,
            from_version=from_version,
            version=now.version,
            why=why.reason.value,
            undoes=why.undoes,
            gate=why.gate,
            seen=None if why.seen is None else orjson.dumps(dict(why.seen)).decode(),
            note=None if why.note is None else storable(why.note),
            moved_by=why.moved_by,
            now=now.updated_at,
        )
        return AliasMove(
            now.name, now.alias, now.generation, from_version, now.version, why, now.updated_at
        )


def check_unmoved(
    name: str,
    alias: str,
    now: Alias | None,
    expected: int | None,
    generation: int | None = None,
) -> None:
    """``Conflict`` with code ``alias_moved`` unless the alias stands for the version, and is of the
    generation, that somebody saw."""
    stands = "does not exist" if now is None else f"stands for version {now.version}"
    if expected is not None and (now is None or now.version != expected):
        says = f"alias {alias!r} of {name!r} does not stand for version {expected}: it {stands}"
    elif generation is not None and (0 if now is None else now.generation) != generation:
        says = (
            f"alias {alias!r} of {name!r} was moved meanwhile: it {stands} now; nothing was"
            " changed, look again and decide anew"
        )
    else:
        return
    raise Conflict(says, code="alias_moved", field="expected")


def _alias_of(row: Row[Any]) -> Alias:
    return Alias(row.name, row.alias, row.version, row.generation, row.updated_at)


def _move_of(row: Row[Any]) -> AliasMove:
    return AliasMove(
        name=row.name,
        alias=row.alias,
        generation=row.generation,
        from_version=row.from_version,
        to_version=row.to_version,
        why=Why(
            reason=MoveReason(row.why),
            undoes=row.undoes,
            gate=row.gate,
            seen=None if row.seen is None else orjson.loads(row.seen),
            note=row.note,
            moved_by=row.moved_by,
        ),
        moved_at=row.moved_at,
    )
