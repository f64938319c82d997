"""The storage: artifacts by name and version, and who may download them. Pure.

An artifact is immutable: its URL, size and hash never change. Its stable URL opens nothing by itself. A device needs a
grant, for itself, for this artifact and for a while: either a pre-signed URL, whose query holds thing, end and
signature, or a temporary credential, which goes into a header. Both are signed with a key that storage and replica
share, so that the replica can grant downloads whether the storage is up or not, and the storage need not remember what
was granted.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from simulator.model.errors import ScenarioError
from simulator.model.io import Request, Response
from simulator.model.update import Artifact

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ArtifactConflict(ScenarioError):
    """Other bytes are there under this name and version."""


class Known(Struct, frozen=True):
    """What an artifact is, without its bytes."""

    path: str
    size: int
    sha256: str


class Stored(Struct, frozen=True):
    """An artifact as the storage keeps it."""

    path: str
    content: bytes
    sha256: str
    etag: str

    @property
    def known(self) -> Known:
        """The same without its bytes."""
        return Known(self.path, len(self.content), self.sha256)


class Served(Struct, frozen=True):
    """What was served to whom, for the record."""

    thing: str
    status: int
    size: int
    sha256: str
    detail: str


@dataclass(slots=True)
class Signer:
    """Grants downloads of what is below `base` (scheme and authority), signed with `key`."""

    base: str
    key: bytes

    def _sign(self, *parts: object) -> str:
        return hmac.new(self.key, repr([*map(str, parts)]).encode(), hashlib.sha256).hexdigest()

    def _signed(self, signature: str, *parts: object) -> bool:
        return hmac.compare_digest(signature.encode(), self._sign(*parts).encode())

    def presign(self, artifact: Known | Stored, thing: str, expires: int, address: str = "") -> str:
        """A URL for this thing until `expires` (Unix seconds), and for this address if one is given."""
        bound = f"&address={quote(address)}" if address else ""
        signature = self._sign("url", artifact.path, thing, expires, address)
        return f"{self.base}{artifact.path}?thing={quote(thing)}&expires={expires}{bound}&signature={signature}"

    def credential(self, artifact: Known | Stored, thing: str, expires: int) -> str:
        """An Authorization header's value: this artifact, this thing, until `expires`."""
        signature = self._sign("credential", artifact.path, thing, expires)
        return f"Bearer {quote(thing, safe='')}.{expires}.{signature}"


@dataclass(slots=True)
class Storage(Signer):
    """Keeps artifacts in memory, and serves whoever has a grant for one."""

    artifacts: dict[str, Stored] = field(default_factory=dict)

    def put(self, name: str, version: str, content: bytes) -> Artifact:
        """Keep an artifact. It is immutable: other bytes under the same name and version raise ArtifactConflict.
        Raises ScenarioError for a name or version that no URL can hold."""
        path = path_of(name, version)
        digest = hashlib.sha256(content).hexdigest()
        known = self.artifacts.get(path)
        if known is not None and known.sha256 != digest:
            raise ArtifactConflict(f"artifact {name} {version} is there already, with other bytes")
        self.artifacts[path] = Stored(path, content, digest, f'"{digest[:32]}"')
        return Artifact(version, self.base + path, len(content), digest)

    def find(self, url: str) -> Stored | None:
        """The artifact with this stable URL."""
        return self.artifacts.get(url.removeprefix(self.base)) if url.startswith(self.base) else None

    def known(self, url: str) -> Known | None:
        """What the artifact with this stable URL is."""
        stored = self.find(url)
        return stored.known if stored is not None else None

    def at(self, name: str, version: str) -> Stored | None:
        """The artifact of this name and version. Raises ScenarioError as `put` does."""
        return self.artifacts.get(path_of(name, version))

    # ---- serving

    def _who(self, request: Request, path: str, query: dict[str, str], now: float, address: str) -> tuple[str, str]:
        """(thing, "") for one with a grant, ("", why not) for all others."""
        authorization = next((v for k, v in request.headers if k == "authorization"), "")
        if authorization[:7].lower() == "bearer ":
            head, _, signature = authorization[7:].rpartition(".")
            named, _, expires = head.rpartition(".")
            thing = unquote(named)
            good = self._signed(signature, "credential", path, thing, expires)
        elif "signature" in query:
            thing, expires, bound = query.get("thing", ""), query.get("expires", ""), query.get("address", "")
            good = self._signed(query["signature"], "url", path, thing, expires, bound)
            if good and bound and bound != address:
                return "", "signed for another address"
        else:
            return "", "neither a signature nor a credential"
        if not good or not expires.isdigit():
            return "", "the signature does not fit"
        if now > int(expires):
            return "", "expired"
        return thing, ""

    def serve(self, request: Request, now: float, address: str = "") -> tuple[Response, Served]:
        """Answer a GET or HEAD for an artifact; `now` in Unix seconds."""
        parts = urlsplit(request.url)
        query = dict(parse_qsl(parts.query))
        path = parts.path if parts.path in self.artifacts else _normal(parts.path)
        stored = self.artifacts.get(path)
        if request.method not in ("GET", "HEAD"):
            return self._refuse(405, "only GET and HEAD", path)
        thing, why_not = self._who(request, path, query, now, address)
        if why_not:
            return self._refuse(403, why_not, path)
        if stored is None:
            return self._refuse(404, "no such artifact", path)
        if request.method == "HEAD":  # RFC 9110 14.2: a range is for GET alone
            return replace(_ranged(stored, {}), body=b""), Served(thing, 200, 0, stored.sha256, stored.path)
        response = _ranged(stored, dict(request.headers))
        return response, Served(thing, response.status, len(response.body), stored.sha256, stored.path)

    def _refuse(self, status: int, why: str, path: str) -> tuple[Response, Served]:
        body = f'{{"error":"{why}"}}'.encode()
        headers = (("content-type", "application/json"), ("content-length", str(len(body))))
        return Response(status, headers, body), Served("", status, 0, "", f"{path}: {why}")


def path_of(name: str, version: str) -> str:
    """An artifact's path in its URL. Raises ScenarioError for a name or version that no URL can hold."""
    for part in (name, version):
        if part in ("", ".", ".."):  # RFC 3986 5.2.4: clients take these out of a URL
            raise ScenarioError(f"an artifact's name and version must each be a part of a URL, unlike {part!r}")
    return f"/artifacts/{quote(name, safe='')}/{quote(version, safe='')}"


def _normal(path: str) -> str:
    """The path as `path_of` spells it: some clients encode fewer characters, or in lower case (RFC 3986 6.2.2)."""
    return "/".join(quote(unquote(part), safe="") for part in path.split("/"))


def _ranged(stored: Stored, headers: dict[str, str]) -> Response:
    """200, 206 or 416 for one range; If-Range of another content gives the whole (RFC 9110 13.1.5, 14)."""
    total = len(stored.content)
    common = (("etag", stored.etag), ("accept-ranges", "bytes"), ("content-type", "application/octet-stream"))
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or not (wanted[1] or wanted[2]) or headers.get("if-range", stored.etag) != stored.etag:
        return Response(200, (*common, ("content-length", str(total))), stored.content)
    if wanted[1]:
        first, last = int(wanted[1]), min(int(wanted[2] or total), total - 1)
    else:
        first, last = max(0, total - int(wanted[2])), total - 1
    if first >= total or first > last:
        return Response(416, (*common, ("content-range", f"bytes */{total}"), ("content-length", "0")))
    body = stored.content[first : last + 1]
    return Response(
        206,
        (*common, ("content-range", f"bytes {first}-{last}/{total}"), ("content-length", str(len(body)))),
        body,
    )
