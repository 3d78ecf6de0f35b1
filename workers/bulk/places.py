"""Where the addresses of a bulk job lead: the files that it reads and the folder that it writes.

Addresses were checked at submit. They are checked again here, because the operator's lists may
have got shorter and a symbolic link cannot be seen in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from storage.database import Database
from storage.objects import Objects, open_objects
from storage.records.errors import InvalidInput, NotFound
from storage.records.patterns import matcher
from storage.records.refs import (
    FileRef,
    ListedRef,
    ManyRef,
    check_input,
    check_output,
    check_ref,
    read_prefix,
)
from workers.inference.refs import ListedStores

MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """An object, or the folder of an output: where it is and what it is called."""

    objects: Objects
    key: str
    uri: str  # as it is shown
    name: str | None = None  # an uploaded file's own name

    @property
    def filename(self) -> str:
        """What its ending tells the format of."""
        return self.name or self.uri


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there."""

    place: Place
    size_bytes: int
    etag: str | None


class Places:
    """One per process; opened stores are kept. Storage that does not answer is raised as it is."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        ref_prefixes: Sequence[str],
        output_prefixes: Sequence[str],
        open_prefix: Callable[[str], Objects] = open_objects,
    ) -> None:
        self._database, self._objects = database, objects
        self._ref_prefixes = tuple(read_prefix(prefix) for prefix in ref_prefixes)
        self._output_prefixes = tuple(read_prefix(prefix) for prefix in output_prefixes)
        self._stores = ListedStores(open_prefix)

    def find(self, tenant: str, uri: str) -> Place:
        """Where one file is; whether it is there is not asked, unless it was uploaded."""
        match check_ref(uri, self._ref_prefixes, field="uri"):
            case FileRef(file_id):
                with self._database.read() as tx:
                    file = tx.files.get(tenant, file_id)
                if file is None:
                    raise NotFound(f"you have no file {uri}", code="input_not_found")
                return Place(self._objects, file.object_key, uri, file.filename)
            case ListedRef() as listed:
                return Place(*self._listed(listed), uri)

    def own(self, key: str, uri: str) -> Place:
        """An object of the service's own store, and what it is called in messages."""
        return Place(self._objects, key, uri)

    def expand(self, tenant: str, uri: str) -> list[Found]:
        """The files that an input names, by address. ``NotFound`` (``input_not_found``) where one
        that it names is not there, ``InvalidInput`` (``input_empty``, ``too_many_files``) where
        a pattern or a prefix fits none or more than 10,000."""
        found = list(islice(self.each(tenant, uri), MAX_FILES + 1))
        if len(found) > MAX_FILES:
            raise InvalidInput(
                f"{uri} names more than {MAX_FILES} files: score a part of them at a time",
                code="too_many_files",
            )
        for one in found:
            self._must_be_spelled(one.place.uri)
        return sorted(found, key=lambda one: one.place.uri)

    def each(self, tenant: str, uri: str) -> Iterator[Found]:
        """The same one by one, however many they are, as the store lists them."""
        ref = check_input(uri, self._ref_prefixes)
        if not isinstance(ref, ManyRef):
            yield self._single(self.find(tenant, uri))
            return
        objects, folder = self._listed(ListedRef(ref.folder, ref.prefix))
        fits = matcher(ref.pattern) if ref.pattern is not None else lambda _: True
        seen = False
        for info in objects.list(folder + ref.begun):
            if fits(info.key.removeprefix(folder)):
                seen = True
                place = Place(objects, info.key, ref.prefix + info.key)
                yield Found(place, info.size_bytes, info.etag)
        if not seen:
            raise InvalidInput(f"no file is named by {uri}", code="input_empty")

    def output(self, uri: str) -> Place:
        """The folder that parts are written into; its ``key`` is the beginning of theirs, without
        a ``/`` at its end. ``InvalidInput`` (``output_not_allowed``)."""
        listed = check_output(uri, self._output_prefixes)
        objects, key = self._stores.find(listed, code="output_not_allowed", field="output.uri")
        return Place(objects, key, listed.uri)

    def _listed(self, listed: ListedRef) -> tuple[Objects, str]:
        return self._stores.find(listed, code="ref_not_allowed", field="uri")

    def _single(self, place: Place) -> Found:
        try:
            info = place.objects.info(place.key)
        except NotFound as error:
            raise NotFound(f"there is no file {place.uri}", code="input_not_found") from error
        return Found(place, info.size_bytes, info.etag)

    def _must_be_spelled(self, uri: str) -> None:
        """A shard's reader finds the file by its address, so it must be one."""
        try:
            check_ref(uri, self._ref_prefixes)
        except InvalidInput as error:
            if uri.startswith("forebay://"):
                raise
            raise InvalidInput(
                f"{uri!r} has a character in its name (one of % ? #) that no address can have:"
                " rename the file, or name the others by a pattern",
                code="ref_not_allowed",
            ) from error
