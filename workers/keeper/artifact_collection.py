"""Artifact collection: what a deleted version left in storage goes once nobody can need it.

A submit that looked its version up before the deletion may write its job after it, and that job is
answered: so an artifact stays for an hour after its version, and for as long as the version has a
live job, or a training is to begin with it. Artifacts are stored by digest: the object goes with
the last of the versions that share it.

It goes inside the transaction that notes it, which holds the deleted versions of the artifact. A
push of the same bytes waits for them, looks whether the object is there, and puts it again if not.
A crash after the deletion leaves the note to the next run, for which deleting is no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects


@dataclass(frozen=True, slots=True)
class ArtifactCollectionConfig:
    """How patient, and how much at once."""

    every_s: float = 60.0  # pause between two runs
    older_than_s: float = 3600.0  # a version was deleted this long ago: no submit remembers it
    limit: int = 100  # most versions looked at by one run


@dataclass(frozen=True, slots=True)
class CollectedArtifacts:
    """What one run did."""

    versions: int
    objects: int  # fewer, where versions share one
    limit: int

    @property
    def more(self) -> bool:
        return self.versions >= self.limit


class ArtifactCollection:
    """See the module."""

    name = "artifact_collection"

    def __init__(self, config: ArtifactCollectionConfig | None = None) -> None:
        self.config = config or ArtifactCollectionConfig()

    def run_once(self, database: Database, objects: Objects) -> CollectedArtifacts:
        config = self.config
        with database.read() as tx:
            due = tx.lifecycle.due(int(config.older_than_s * 1000), config.limit)
        versions = deleted = 0
        for one in due:
            with database.begin() as tx:
                collected, is_last = tx.lifecycle.collect(one)
                if is_last:
                    objects.delete([one.object_key])
            versions += collected
            deleted += is_last
        return CollectedArtifacts(versions, deleted, config.limit)
