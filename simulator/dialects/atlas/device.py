"""The device's side of the atlas dialect: steps 1, 5, 6 and 8 of the pattern."""

from __future__ import annotations

from typing import Any

import orjson

from simulator.dialects.atlas.documents import (
    EXAMPLE,
    loaded,
    number,
    part,
    refusal,
    software,
    text,
)
from simulator.dialects.atlas.topics import TOPICS, AtlasTopics
from simulator.dialects.base import (
    Answered,
    CredentialGranted,
    CredentialRefused,
    InSync,
    Said,
    UpdateRequested,
)
from simulator.dialects.meanings import Meaning, Means
from simulator.dialects.topics import fill
from simulator.model.errors import NotSimulated
from simulator.model.io import NOTHING, Inbound, Publish, Response, Step, Subscribe
from simulator.model.state import Document
from simulator.model.update import Artifact, Download, Execution, Progress, Status, same_place

_MEANS = {
    "update": Means.REPORT,
    "accepted": Means.ACCEPTED,
    "rejected": Means.REJECTED,
    "delta": Means.DESIRED,
    "get": Means.ASKED,
    "get_accepted": Means.CURRENT,
    "get_rejected": Means.NOT_CURRENT,
    "credentials": Means.WANTED,
    "credentials_accepted": Means.CREDENTIAL,
    "credentials_rejected": Means.REFUSED,
}


class AtlasDevice:
    """What a device says and hears; implements `DeviceDialect`. `address` is told with the initial state: a backend
    may bind URLs to it. `known` is an artifact whose hash need not be announced."""

    __slots__ = ("_address", "_credential", "_example", "_known", "_thing", "_topics", "answers")
    wake_at: float | None = None
    roads = frozenset({"mqtt"})

    def __init__(
        self,
        thing: str,
        *,
        topics: AtlasTopics = TOPICS,
        variant: str = "atlas",
        credential: bool = False,
        address: str = "",
        known: Artifact | None = None,
    ) -> None:
        self._thing = thing
        self._known = known
        self._topics = topics
        self._example = variant == EXAMPLE
        self.answers = not self._example  # in the page's own code nobody answers the device
        self._credential = credential
        self._address = address

    def open(self, initial: Progress, now: float) -> Step:
        """Subscribe before anything is asked, report the initial state, ask for the desired one."""
        t, thing = self._topics, self._thing
        # atlas software-update step 1; atlas replica: the first action of every (re)connect is to obtain and compare
        names = [t.delta, t.get_accepted, t.get_rejected]
        if self._credential:
            names += [t.credentials_accepted, t.credentials_rejected]
        ask = self.ask_current(now)
        if self._example:
            return Step((Subscribe(tuple(fill(n, thing) for n in names)), *ask.outputs))
        names += [t.accepted, t.rejected]
        outputs = Subscribe(tuple(fill(n, thing) for n in names)), *self.report(initial, now).outputs, *ask.outputs
        return Step(outputs, (Said(initial),))

    def ask_current(self, now: float) -> Step:
        """Publish on `get`."""
        return Step((Publish(fill(self._topics.get, self._thing), b""),))

    def ask_credential(self, job: str, now: float) -> Step:
        """Ask for a credential for this job's artifact, over the device's own channel."""
        return Step((Publish(fill(self._topics.credentials, self._thing), orjson.dumps({"jobID": job})),))

    def ask_chunk(self, job: str, offset: int, length: int, now: float) -> Step:
        """Raises NotSimulated: in this dialect artifacts come over HTTP."""
        raise NotSimulated("an artifact in chunks: the atlas dialect has it downloaded over HTTP")

    def report(self, progress: Progress, now: float) -> Step:
        """Say what runs now and, where it speaks of an update, how that went."""  # atlas software-update step 8
        if self._example:
            if progress.status not in (Status.SUCCESS, Status.FAILURE):
                return NOTHING
            text = f"jobID:{progress.job} {progress.status}".encode()
            return Step((Publish(fill(self._topics.accepted, self._thing), text),))
        body: dict[str, Any] = {
            "state": {"reported": software(progress.version, progress.url)},
            "clientToken": progress.token,
        }
        if progress.status is None:
            if self._address:
                body["state"]["reported"]["address"] = self._address
        else:
            body |= {"jobID": progress.job, "status": progress.status, "phase": progress.phase}
            if progress.reason:
                body["reason"] = progress.reason
        return Step((Publish(fill(self._topics.update, self._thing), orjson.dumps(body)),))

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Understand what the replica sent; anything else is ignored."""
        if isinstance(inbound, Response):
            return NOTHING
        name, thing = self._topics.parse(inbound.topic)
        if thing != self._thing:
            return NOTHING
        body = loaded(inbound.payload)
        if body is None:
            return NOTHING
        signal: Any = None
        if name == "accepted":
            if "reported" in part(body, "state"):
                signal = Answered(text(body.get("clientToken")), text(body.get("jobID")), number(body.get("version")))
        elif name == "delta":
            signal = self._requested(body, part(body, "state", "software"), "delta")
        elif name == "get_accepted":
            wanted = part(body, "state", "delta", "software")
            signal = self._requested(body, wanted, "get") or InSync(number(body.get("version")))
        elif name == "rejected":
            signal = Answered(text(body.get("clientToken")), "", None, *refusal(body))
        elif name == "credentials_accepted":
            signal = CredentialGranted(text(body.get("jobID")), text(body.get("authorization")), body.get("expiresAt"))
        elif name == "credentials_rejected":
            signal = CredentialRefused(text(body.get("jobID")), *refusal(body))
        return Step((), (signal,)) if signal is not None else NOTHING

    def _requested(self, body: Document, wanted: Document, source: str) -> UpdateRequested | None:
        """The delta is the command: what is desired, its job id, and the permission to download."""  # step 5 and 6
        url = text(wanted.get("softwareURL"))
        if not url:
            return None
        granted = part(body, "download")
        version = text(wanted.get("version")) or text(part(body, "state", "desired", "software").get("version"))
        expires = granted.get("expiresAt")
        sha256 = text(granted.get("sha256")).lower() or None
        if sha256 is None and self._known is not None and same_place(self._known.url, url):
            sha256 = self._known.sha256
        return UpdateRequested(
            Execution(
                text(body.get("jobID")) or url,
                self._thing,
                Artifact(version, url, number(granted.get("size")), sha256),
            ),
            Download(
                text(granted.get("url")) or url,
                float(expires) if isinstance(expires, int | float) else None,
                self._credential and bool(granted),
            ),
            number(body.get("version")),
            source,
        )

    def wake(self, now: float) -> Step:
        """Everything is pushed in this dialect."""
        return NOTHING

    def meaning(self, topic: str, payload: bytes) -> Meaning:
        """What a message means; its name is its topic's. A report, and the answer that repeats it, are looked into."""
        name, _ = self._topics.parse(topic)
        if name == "accepted" and self._example:  # the device's own word: `jobID:<id> SUCCESS|FAILURE`
            return Meaning(Means.REPORT, name, payload.startswith(b"jobID:"), answered=False)
        of_end = name in ("update", "accepted") and (b'"SUCCESS"' in payload or b'"FAILURE"' in payload)
        return Meaning(_MEANS.get(name, Means.OTHER), name, of_end)
