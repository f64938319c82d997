"""Where the new software is put, and who answers for it: the port of artifact stores, those that there are, and each by
name.

A store is met in up to three places. Whoever rolls out puts the bytes there (step 2 of the pattern). The replica asks
what is there, and signs for it: it adds a pre-signed URL or a credential to a delta, whether the store is up or not.
And somebody answers the devices' downloads: this process (`serve`), or another one.

Our own store, `embedded`, is all three. In virtual time they are one object (`InProcessStore`). In a live run they are
three processes: the conductor uploads over HTTP, the replica looks at the directory that it shares with the storage,
and the storage serves (`api.py`).

A scenario's `target.storage` names one; it is looked up in STORES. A new store is a class that implements
`ArtifactStore`, and an entry in STORES.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from simulator.links.base import HttpLink
from simulator.model.errors import ScenarioError
from simulator.model.io import Request, Response
from simulator.model.update import Artifact
from simulator.storage.core import Known, Served, Storage, path_of
from simulator.storage.shelf import Catalogue, Shelf

_UPLOAD_S = 30.0

Serve = Callable[[Request, float, str], tuple[Response, Served]]
"""Answers a device's GET or HEAD, at `now` (Unix seconds), from an address; with what was served, for the record."""


class ArtifactStore(Protocol):
    """A store as one process sees it."""

    @property
    def serve(self) -> Serve | None:
        """Answers downloads; None where another process, or somebody else, does that."""

    async def put(self, name: str, version: str, content: bytes) -> Artifact:
        """Keep an artifact, which is immutable, and give its facts and stable URL. Raises ScenarioError where the store
        refuses it, and LinkError where it cannot be reached."""

    def known(self, url: str) -> Known | None:
        """What the artifact with this stable URL is; None for a URL that is not this store's."""

    def presign(self, artifact: Known, thing: str, expires: int, address: str = "") -> str:
        """A URL for this thing until `expires` (Unix seconds), and for this address if one is given."""

    def credential(self, artifact: Known, thing: str, expires: int) -> str:
        """An Authorization header's value: this artifact, this thing, until `expires` (Unix seconds)."""


class Place(NamedTuple):
    """Where a process finds its store: `base` is scheme and authority of the URLs, `key` what they are signed with. Of a
    live run: `directory` is shared by those that serve and sign, `http` and `token` are what an upload needs. In virtual
    time there is no directory."""

    base: str
    key: bytes = b""
    directory: Path | None = None
    http: HttpLink | None = None
    token: str = ""


# ---- our own


class InProcessStore:
    """Our own store, when everybody who meets it is in one process."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.serve, self.known = storage.serve, storage.known
        self.presign, self.credential = storage.presign, storage.credential

    async def put(self, name: str, version: str, content: bytes) -> Artifact:
        """Keep it in memory. Raises ArtifactConflict for other bytes under the same name and version."""
        return self._storage.put(name, version, content)


class EmbeddedStore(Catalogue):
    """Our own store, seen from another process than the one that serves: it looks at the directory that both share, and
    uploads over HTTP."""

    serve = None

    def __init__(self, place: Place) -> None:
        assert place.directory is not None
        super().__init__(place.base, place.key, Shelf(place.directory))
        self._http, self._token = place.http, place.token

    async def put(self, name: str, version: str, content: bytes) -> Artifact:
        """Upload it. Raises ScenarioError where the storage refuses it, LinkError."""
        assert self._http is not None
        request = Request(
            "PUT", self.base + path_of(name, version), (("authorization", f"Bearer {self._token}"),), content
        )
        response = await self._http.request(request, timeout_s=_UPLOAD_S)
        answer = orjson.loads(response.body)
        if response.status != 200:
            raise ScenarioError(f"the storage refused the artifact: {answer.get('error', response.status)}")
        return Artifact(version, answer["url"], answer["size"], answer["sha256"])


def _embedded(place: Place) -> ArtifactStore:
    if place.directory is None:
        return InProcessStore(Storage(place.base, place.key))
    return EmbeddedStore(place)


# ---- by name


class StoreKind(NamedTuple):
    """How stores of one name are opened."""

    open: Callable[[Place], ArtifactStore]
    process: bool
    """Whether a live run starts a storage process of its own for it."""


STORES: dict[str, StoreKind] = {"embedded": StoreKind(_embedded, process=True)}
"""Name -> how its stores are opened."""


def kind_of(name: str) -> StoreKind:
    """The store that a scenario's `target.storage` names. Raises ScenarioError where there is none of that name."""
    kind = STORES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, STORES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ScenarioError(f"target.storage: {name!r} is none of {', '.join(STORES)}{hint}")
    return kind
