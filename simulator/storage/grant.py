"""Grants: permission for one thing to download one artifact, as a pre-signed URL or as a temporary credential."""

from __future__ import annotations

from simulator.model.state import Document
from simulator.storage.store import ArtifactStore


class Grants:
    """Grants downloads from a store: by pre-signed URLs, or by temporary credentials with plain URLs, each for `ttl_s`
    seconds. With `bind_address` a URL opens from the address that its thing reported, and there is none before it did."""

    def __init__(self, store: ArtifactStore, *, ttl_s: float, credential: bool, bind_address: bool = False) -> None:
        self._store, self._ttl_s, self._by_credential, self._bind = store, ttl_s, credential, bind_address

    def download(self, url: str, thing: str, address: object, now: float) -> Document | None:
        """A delta's `download` member at `now` (Unix seconds), for a thing that reported this address; None for a URL that
        is not this store's."""
        known = self._store.known(url)
        if known is None or (self._bind and not (isinstance(address, str) and address)):
            return None
        facts = {"size": known.size, "sha256": known.sha256}
        if self._by_credential:
            return {"url": url, **facts}
        expires, bound = int(now + self._ttl_s), str(address) if self._bind else ""
        return {"url": self._store.presign(known, thing, expires, bound), "expiresAt": expires, **facts}

    def credential(self, url: str, thing: str, now: float) -> tuple[str, float] | None:
        """An Authorization header's value and its end; None for a URL that is not this store's."""
        known = self._store.known(url)
        if known is None:
            return None
        expires = int(now + self._ttl_s)
        return self._store.credential(known, thing, expires), expires
