"""The device state replica: each thing's document, and what every request makes of it. Pure: it decides, others commit.

A document has two sections: `desired`, what the application wants the device to run, and `reported`, what the device
says it runs. Where they differ is the *delta* (computed in model/state.py). Every change gives the document the next
version number, and is answered `accepted`; as long as something differs, a delta follows. That is step 4 of the pattern
when the application has changed `desired`, and step 9 when a device has reported and nothing differs any more.

Order matters: a decision holds the row to commit and what to send afterwards. Nothing may be sent before it is
committed, or a crash could take back what others have heard. The documents in memory move ahead of the commit, so that
the next request sees them.

Tokens. A sender that hears nothing sends the same request again, with the same client token. The replica remembers the
last four tokens of each kind with the versions that they got, and answers a repeated one as it did before, changing
nothing. There are kinds, so that a device that says RUNNING often does not push out the token of a report that waits
in its queue.

A repeated change of `desired` is answered with its delta once more: whoever did not hear the answer cannot know that
the device heard the delta. For the same reason all deltas are published again after a start (`outstanding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from simulator.dialects.base import (
    Completion,
    CredentialRequest,
    GetRequest,
    ReplicaDialect,
    ReplicaRequest,
    UpdateRequest,
)
from simulator.model.events import Kind
from simulator.model.io import Publish
from simulator.model.state import Document, deeper, delta, merge, null_in_array
from simulator.model.update import Status

_TOKENS = 4  # of each kind, so that a repeated request is recognised after others have come in between
_DESIRED, _RUNNING, _REPORTED = "desired", "running", "reported"  # kinds of requests


class Row(Struct, frozen=True):
    """A thing's document as the database keeps it. `job` is that of the desired state. `tokens` are the last client tokens, each
    with the version it got and its kind: a change of what is desired, a report of RUNNING, or any other report."""

    thing: str
    version: int
    desired: Document
    reported: Document
    job: str
    tokens: tuple[tuple[str, int, str], ...]


class Note(Struct, frozen=True):
    """An event for the record."""

    kind: str
    thing: str
    columns: dict[str, Any]


class Decision(Struct, frozen=True):
    """What to commit, and what to send and record once it is committed."""

    row: Row | None
    outputs: tuple[Publish, ...]
    notes: tuple[Note, ...]


class RequestRefused(Exception):
    """A request that is refused, and changes nothing. `code` and `message` go into the answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Bounds of a document and a token, in bytes and levels."""

    document_max: int = 8192
    depth_max: int = 6
    token_max: int = 64


class Replica:
    """All things' documents. `download(url, thing, address, now)` gives a delta's `download` member for the artifact at this
    URL, `credential(url, thing, now)` an Authorization header's value and its end (Unix seconds); each None where the thing
    gets none."""

    def __init__(
        self,
        dialect: ReplicaDialect,
        *,
        download: Callable[[str, str, Any, float], Document | None],
        credential: Callable[[str, str, float], tuple[str, float] | None],
        limits: DocumentLimits = DocumentLimits(),
    ) -> None:
        self._dialect, self._limits = dialect, limits
        self._grant_download, self._grant_credential = download, credential
        self.rows: dict[str, Row] = {}

    def decide(self, request: ReplicaRequest, now: float) -> Decision:
        """Handle one request; the state in memory moves ahead of the commit. `now` in Unix seconds."""
        try:
            if isinstance(request, UpdateRequest):
                return self._update(request, now)
            if isinstance(request, GetRequest):
                return self._get(request, now)
            if isinstance(request, CredentialRequest):
                return self._credential(request, now)
            if isinstance(request, Completion):
                return self._complete(request, now)
            raise RequestRefused(400, "not a JSON object")
        except RequestRefused as no:
            return self.refuse(request, no.code, no.message, now)

    def refuse(self, request: ReplicaRequest, code: int, message: str, now: float) -> Decision:
        """A rejection, changing nothing."""
        token = _token(request)
        note = Note(Kind.REJECTED, request.thing, {"status": str(code), "detail": message, "token": token})
        if isinstance(request, CredentialRequest):
            note = Note(Kind.CREDENTIAL, request.thing, {"status": str(code), "job": request.job, "detail": message})
        return Decision(None, (self._dialect.rejected(request, code, message, now),), (note,))

    def loaded(self) -> Iterator[Note]:
        """What there is, to be recorded at a start: of its last commits nobody may have heard."""
        for row in self.rows.values():
            fields = {"doc": row.version, "job": row.job or None, "version": _version(row.desired)}
            yield Note(Kind.LOADED, row.thing, fields)

    def outstanding(self, now: float) -> Iterator[Decision]:
        """The deltas of all rows that differ, to be published after a start: whoever died between a commit and its
        delta cannot know that it did, and a device that stays connected does not ask."""
        for row in self.rows.values():
            outputs, notes = self._delta(row, now)
            if outputs:
                yield Decision(None, outputs, notes)

    # ---- update

    def _update(self, request: UpdateRequest, now: float) -> Decision:
        row = self.rows.get(request.thing) or Row(request.thing, 0, {}, {}, "", ())
        token = self._checked(request)
        for known in row.tokens:
            if known[0] == token:  # atlas command: messages are idempotent; the same token gets the same answer
                self.rows[row.thing] = replace(row, tokens=_remembering(row.tokens, known))
                # who did not hear the answer cannot know that anybody heard the delta
                delta, notes = self._delta(row, now) if known[2] == _DESIRED else ((), ())
                return Decision(None, (self._dialect.accepted(request, known[1], now), *delta), notes)
        if request.version is not None and request.version != row.version:
            raise RequestRefused(409, "version conflict")
        state: Document = request.state
        desired, reported = _section(row.desired, state, "desired"), _section(row.reported, state, "reported")
        size = len(orjson.dumps(desired)) + len(orjson.dumps(reported))
        if size > self._limits.document_max:
            raise RequestRefused(413, f"the document exceeds {self._limits.document_max} bytes")
        tokens = _remembering(row.tokens, (token, row.version + 1, _kind(request))) if token else row.tokens
        job = request.job if "desired" in state and request.job else row.job
        if not request.job and _software(desired) != _software(row.desired):
            job = str(
                _software(desired).get("softwareURL", "")
            )  # nobody named a job, and the last one was for other software
        changed = Row(row.thing, row.version + 1, desired, reported, job, tokens)
        return self._committing(changed, self._dialect.accepted(request, changed.version, now), request, now, size)

    def _checked(self, request: UpdateRequest) -> str:
        """The client token, if there is one. Raises RequestRefused for a request that is not well-formed."""
        token, state = request.token, request.state
        if token is not None and not isinstance(token, str):
            raise RequestRefused(400, "clientToken is not a string")
        if token and len(token.encode()) > self._limits.token_max:
            raise RequestRefused(400, f"clientToken is longer than {self._limits.token_max} bytes")
        if not isinstance(state, dict):
            raise RequestRefused(400, "missing required node: state" if state is None else "state is not an object")
        if unknown := state.keys() - {"desired", "reported"}:
            raise RequestRefused(400, f"unknown section: {min(unknown)}")
        for name, section in state.items():
            if section is not None and not isinstance(section, dict):
                raise RequestRefused(400, f"{name} is not an object")
            if section and deeper(section, self._limits.depth_max):
                raise RequestRefused(400, f"more than {self._limits.depth_max} levels")
            if null_in_array(section):
                raise RequestRefused(400, "null in an array")
        if request.version is not None and (not isinstance(request.version, int) or isinstance(request.version, bool)):
            raise RequestRefused(400, "version is not a number")
        return token or ""

    def _committing(
        self,
        row: Row,
        answer: Publish | None,
        request: UpdateRequest | Completion,
        now: float,
        size: int | None = None,
    ) -> Decision:
        """Accepted, and the delta if and only if something differs."""  # atlas software-update step 4 and 9
        self.rows[row.thing] = row
        state = request.state if isinstance(request, UpdateRequest) else {"reported": row.reported}
        sections = "both" if len(state) == 2 else next(iter(state), "none")
        version = _version(state.get("desired") or state.get("reported") or {})
        changed = row.desired if "desired" in state else row.reported if state else {}
        note = {"doc": row.version, "job": request.job or None, "status": sections, "version": version}
        more = {"size": size, "detail": _url(changed), "token": _token(request)}
        notes = [Note(Kind.ACCEPTED, row.thing, {**note, **more})]
        delta, delta_notes = self._delta(row, now)
        return Decision(row, (*([answer] if answer is not None else ()), *delta), (*notes, *delta_notes))

    def _delta(self, row: Row, now: float) -> tuple[tuple[Publish, ...], tuple[Note, ...]]:
        """The delta to publish, and its note; nothing where nothing differs."""
        different = self._different(row)
        if not different:
            return (), ()
        download = self._download(row, different, now)
        message = self._dialect.delta(row.thing, different, row.version, now, job=row.job, download=download)
        fields = {"doc": row.version, "job": row.job, "version": _version(row.desired)}
        return (message,), (Note(Kind.SENT_DELTA, row.thing, fields),)

    def _different(self, row: Row) -> Document:
        """The minimal delta; wherever software differs, its URL stands in it."""
        different = delta(row.desired, row.reported)
        if "software" in different and isinstance(different["software"], dict):
            url = _software(row.desired).get("softwareURL")
            if url:
                different["software"] = {**different["software"], "softwareURL": url}
        return different

    def _download(self, row: Row, different: Document, now: float) -> Document | None:
        url = _software(different).get("softwareURL")
        return self._grant_download(url, row.thing, row.reported.get("address"), now) if isinstance(url, str) else None

    def _complete(self, request: Completion, now: float) -> Decision:
        """`atlas-example`: SUCCESS of the current job means that what is desired now runs."""
        row = self.rows.get(request.thing)
        if row is None or row.job != request.job:
            return Decision(None, (), (Note(Kind.REJECTED, request.thing, {"status": "404", "detail": "no such job"}),))
        software = row.desired.get("software")
        if request.status is not Status.SUCCESS or software is None or row.reported.get("software") == software:
            return Decision(None, (), ())
        changed = replace(row, version=row.version + 1, reported={**row.reported, "software": software})
        return self._committing(changed, None, request, now)

    # ---- get, credentials

    def _get(self, request: GetRequest, now: float) -> Decision:
        row = self.rows.get(request.thing)
        if row is None:
            raise RequestRefused(404, "no such thing")
        different = self._different(row)
        state = {"desired": row.desired, "reported": row.reported, "delta": different}
        download = self._download(row, different, now)
        answer = self._dialect.current(request, state, row.version, now, job=row.job, download=download)
        return Decision(None, (answer,), ())

    def _credential(self, request: CredentialRequest, now: float) -> Decision:
        row = self.rows.get(request.thing)
        url = _software(row.desired).get("softwareURL") if row else None
        if row is None or not url or row.job != request.job:
            raise RequestRefused(404, "no such job for this thing")
        granted = self._grant_credential(url, request.thing, now)
        if granted is None:
            raise RequestRefused(404, "no such artifact")
        note = Note(Kind.CREDENTIAL, request.thing, {"status": "granted", "job": request.job})
        return Decision(None, (self._dialect.credential(request, *granted),), (note,))


def _kind(request: UpdateRequest) -> str:
    """The kind of the request's token. RUNNING is reported often, each time with a new token; a report of an update's end is
    repeated with the same one."""
    if "desired" in request.state:
        return _DESIRED
    return _RUNNING if request.status == Status.RUNNING else _REPORTED


def _remembering(
    tokens: tuple[tuple[str, int, str], ...], latest: tuple[str, int, str]
) -> tuple[tuple[str, int, str], ...]:
    """The tokens, with this one as the last; where there are too many of its kind, the one that was used longest ago is
    dropped."""
    others = [token for token in tokens if token != latest]
    alike = [token for token in others if token[2] == latest[2]]
    return (*(token for token in others if token not in alike[: 1 - _TOKENS]), latest)


def _section(before: Document, state: Document, name: str) -> Document:
    if name not in state:
        return before
    patch = state[name]
    return {} if patch is None else merge(before, patch)


def _token(request: ReplicaRequest) -> str | None:
    """The request's client token, for the record."""
    token = getattr(request, "token", None)
    return token if isinstance(token, str) and token else None


def _version(document: Document) -> str | None:
    version = _software(document).get("version")
    return version if isinstance(version, str) else None


def _url(document: Document) -> str | None:
    url = _software(document).get("softwareURL")
    return url if isinstance(url, str) else None


def _software(document: Document) -> Document:
    software = document.get("software")
    return software if isinstance(software, dict) else {}
