"""A backend of the pattern that has nothing of fleetsim's in it: a replica and a storage, small enough to be read at once.

It was written from the description of the pattern and of its wire form alone, and shares no code with the simulator, so that
a mistake in fleetsim's own replica or storage cannot hide itself by being made twice. It connects to a broker, keeps one
document for each thing in memory, and serves one artifact over HTTP by URLs which it signs itself. Without a `--bug` it does
what the description says; each `--bug NAME` makes it break one sentence of it. It imports nothing outside of the standard
library but aiomqtt.

    python -m tests.foreign.backend --broker mqtt://127.0.0.1:1883 --http-port 8082 [--ttl 3600] [--bug NAME ...]

It prints `ready URL` when it has subscribed and listens; the URL is the artifact's (its `softwareURL`).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import itertools
import json
import random
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiomqtt

from tests.foreign.bugs import BUGS

DOCUMENT_MAX, DEPTH_MAX, TOKEN_MAX = 8192, 6, 64
ARTIFACT = random.Random("foreign").randbytes(32 * 1024)
PATH = "/app-2.0.0.bin"


class Refused(Exception):
    """A request that the replica does not take: (code, message)."""


class Document:
    """What is known of one thing."""

    def __init__(self) -> None:
        self.desired: dict[str, Any] = {}
        self.reported: dict[str, Any] = {}
        self.before: dict[str, Any] = {}  # reported, without the last report
        self.job: str | None = None
        self.version = 0
        self.answered: dict[bytes, tuple[str, dict[str, Any]]] = {}  # a request with a token -> its answer
        self.deltas: list[dict[str, Any]] = []
        self.url: dict[str, Any] | None = None


def merge(old: dict[str, Any], new: dict[str, Any], keep_null: bool = False) -> dict[str, Any]:
    """The old members with the new ones: objects member by member, everything else as it is; null deletes."""
    merged = dict(old)
    for key, value in new.items():
        if value is None and not keep_null:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value, keep_null)
        else:
            merged[key] = value
    return merged


def differing(desired: dict[str, Any], reported: dict[str, Any]) -> dict[str, Any]:
    """The members of desired that reported lacks or has otherwise."""
    found = {}
    for key, value in desired.items():
        other = reported.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if below := differing(value, other):
                found[key] = below
        elif key not in reported or value != other:
            found[key] = value
    return found


def depth(value: Any) -> int:
    """How many objects and arrays stand in one another."""
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def null_in_array(value: Any) -> bool:
    """Whether an array anywhere holds null."""
    if isinstance(value, list):
        return None in value or any(map(null_in_array, value))
    return isinstance(value, dict) and any(map(null_in_array, value.values()))


class Storage:
    """One artifact behind signed URLs."""

    def __init__(self, base: str, ttl: float, bugs: set[str]) -> None:
        self.base, self.ttl, self.bugs = base, ttl, bugs
        self.url = base + PATH
        self.key = random.randbytes(16)
        self.cut: set[str] = set()
        self.refused: set[str] = set()
        self.served = itertools.count(1)

    def signature(self, thing: str, until: str) -> str:
        return hmac.new(self.key, f"{PATH} {thing} {until}".encode(), "sha256").hexdigest()

    def download(self, thing: str) -> dict[str, Any]:
        """The download object for this thing, signed now."""
        until = int(time.time() + self.ttl)
        query = urlencode({"thing": thing, "until": until, "sign": self.signature(thing, str(until))})
        bytes_hashed = b"something else" if "wrong-hash-announced" in self.bugs else ARTIFACT
        return {
            "url": f"{self.url}?{query}",
            "expiresAt": until * 1000 if "milliseconds" in self.bugs else until,
            "size": len(ARTIFACT) + ("wrong-size-announced" in self.bugs),
            "sha256": hashlib.sha256(bytes_hashed).hexdigest(),
        }

    def allowed(self, query: dict[str, list[str]]) -> bool:
        thing, until, sign = (query.get(name, [""])[0] for name in ("thing", "until", "sign"))
        if "serves-unsigned" not in self.bugs and not hmac.compare_digest(sign, self.signature(thing, until)):
            return False
        left = float(until or 0) - time.time()
        if left < (self.ttl / 2 if "refuses-early" in self.bugs else 0) and "serves-expired" not in self.bugs:
            self.refused.add(thing)
            return False
        return not ("refuses-fresh" in self.bugs and thing in self.refused)

    def answer(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a GET."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if parts.path != PATH:
            return 404, {}, b"no such file"
        if not self.allowed(query):
            return 403, {}, b"not signed for you, or too late"
        body, total = ARTIFACT, len(ARTIFACT)
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        if "etag-changes" in self.bugs:
            etag = f'"{next(self.served)}"'
        if "etag-weak" in self.bugs:
            etag = f"W/{etag}"
        out = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        same = headers.get("if-range", etag) == etag or "ignores-if-range" in self.bugs
        wanted = headers.get("range", "") if same and "ignores-range" not in self.bugs else ""
        bounds = span(wanted, total) if wanted else None
        if bounds == ():
            return 416, {"Content-Range": f"bytes */{total}"}, b""
        if not bounds:
            if "altered-bytes" in self.bugs:
                body = body[:100] + bytes([body[100] ^ 1]) + body[101:]
            return 200, out, body[:-100] if "short-body" in self.bugs else body
        first, last = bounds
        if "wrong-range" in self.bugs:
            first = min(first + 16, last)
        said = f"bytes {first}-{last}/{total + ('range-without-total' in self.bugs)}"
        shift = 16 if "wrong-place" in self.bugs and first >= 16 else 0
        return 206, out | {"Content-Range": said}, body[first - shift : last + 1 - shift]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        try:
            while line := await reader.readline():
                method, target, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while text := (await reader.readline()).decode("latin-1").strip():
                    name, _, value = text.partition(":")
                    headers[name.lower()] = value.strip()
                status, out, body = (405, {}, b"") if method not in ("GET", "HEAD") else self.answer(target, headers)
                out["Content-Length"] = str(len(body))
                head = "".join(f"{name}: {value}\r\n" for name, value in out.items())
                writer.write(f"HTTP/1.1 {status} {status}\r\n{head}\r\n".encode("latin-1"))
                if "cuts-body" in self.bugs and status == 200 and target not in self.cut:
                    self.cut.add(target)
                    writer.write(body[: len(body) // 2])
                    break
                writer.write(body if method == "GET" else b"")
                await writer.drain()
        except (ValueError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def span(wanted: str, total: int) -> tuple[int, int] | tuple[()] | None:
    """First and last byte of a Range header: () if no byte is there, None if it is not understood and so does not count."""
    unit, _, spec = wanted.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip() != "bytes" or not dash or "," in spec or not (first or last) or not (first + last).isdigit():
        return None
    if not first:
        return (max(0, total - int(last)), total - 1) if int(last) else ()
    if last and int(last) < int(first):
        return None
    return (int(first), min(int(last or total), total - 1)) if int(first) < total else ()


class Replica:
    """The documents of all things, and what is said about them."""

    def __init__(self, client: aiomqtt.Client, storage: Storage, bugs: set[str]) -> None:
        self.client, self.storage, self.bugs = client, storage, bugs
        self.documents: dict[str, Document] = {}
        self.last = self.asked = ""  # the thing that spoke, or asked, before
        self.token: Any = None  # the client token of the request before
        self.gets = self.updates = 0
        self.later: set[asyncio.Task[None]] = set()

    async def say(self, topic: str, body: dict[str, Any]) -> None:
        body["timestamp"] = int(time.time() * (1000 if "timestamp-ms" in self.bugs else 1))
        text = json.dumps({name: value for name, value in body.items() if value is not None})
        qos, retain = (0 if "qos0" in self.bugs else 1), "retains" in self.bugs
        for _ in range(2 if "duplicate-answers" in self.bugs and not topic.endswith("delta") else 1):
            if "slow-answers" in self.bugs and not topic.endswith("delta"):
                self.later.add(asyncio.create_task(self.say_later(topic, text)))
            else:
                await self.client.publish(topic, text, qos=qos, retain=retain)

    async def say_later(self, topic: str, text: str) -> None:
        await asyncio.sleep(30)
        await self.client.publish(topic, text, qos=1)

    async def hear(self, topic: str, payload: bytes) -> None:
        """One message: a request on `state/<thing>/update` or `state/<thing>/get`."""
        _, thing, kind = topic.split("/")
        try:
            request = json.loads(payload) if payload or kind == "update" else {}
        except ValueError:
            await self.say(f"{topic}/rejected", {"code": 400, "message": "this is not JSON"})
            return
        token = request.get("clientToken") if isinstance(request, dict) else None
        shown = token if isinstance(token, str) and "accepted-without-token" not in self.bugs else None
        try:
            if not isinstance(request, dict) and "accepts-non-object" in self.bugs:
                request = {}
            if not isinstance(request, dict):
                raise Refused(400, "this is no object")
            long = isinstance(token, str) and len(token.encode()) > TOKEN_MAX and "accepts-long-token" not in self.bugs
            if long or not isinstance(token, str | None):
                raise Refused(400, f"the client token is no text of at most {TOKEN_MAX} bytes")
            await (self.update if kind == "update" else self.get)(thing, request, payload, shown)
        except Refused as refusal:
            code, message = refusal.args
            await self.say(f"{topic}/rejected", {"code": code, "message": message, "clientToken": shown})
        self.last, self.token = thing, token or self.token

    async def get(self, thing: str, request: dict[str, Any], payload: bytes, token: str | None) -> None:
        self.gets += 1
        if "get-unanswered" in self.bugs and self.gets % 2:
            return
        about = self.asked if "get-of-other-thing" in self.bugs and self.asked in self.documents else thing
        self.asked = thing
        document = self.documents.get(about)
        if document is None:
            raise Refused(404, "nothing is known of this thing")
        delta = self.delta(document)
        state = {"desired": document.desired, "reported": document.reported, "delta": delta}
        if "forgets-accepted" in self.bugs:
            state["reported"] = document.before
        if "forgets-desired" in self.bugs and delta:
            del state["desired"]
        if not delta or "get-without-delta" in self.bugs:
            del state["delta"]
        version = document.version - ("get-old-version" in self.bugs)
        body = {"state": state, "jobID": document.job, "version": version, "clientToken": token}
        await self.say(f"state/{thing}/get/accepted", body | {"download": self.download(about, document, delta)})

    async def update(self, thing: str, request: dict[str, Any], payload: bytes, token: str | None) -> None:
        document = self.documents.get(thing) or Document()
        if token and payload in document.answered and "repeats-count" not in self.bugs:
            topic, body = document.answered[payload]
            await self.say(topic, dict(body))
            return
        state, status = request.get("state"), request.get("status")
        try:
            desired, reported = self.checked(document, request)
        except Refused:
            if "rejected-counts" in self.bugs and isinstance(state, dict):
                document.version, document.reported = (
                    document.version + 1,
                    merge(document.reported, state.get("reported") or {}),
                )
            raise
        state = request["state"]
        self.documents[thing] = document
        if "reported" in state:
            document.before = document.reported
        document.desired, document.reported = desired, reported
        if "desired" in state:
            document.job = request.get("jobID")
        self.updates += 1
        step = -2 if "version-goes-back" in self.bugs and status == "SUCCESS" else 1 + ("version-skips" in self.bugs)
        document.version += 0 if "same-version" in self.bugs and status == "RUNNING" else step
        if "version-per-fleet" in self.bugs:
            document.version = self.updates
        topic = f"state/{thing}/update"
        body = {"state": state, "version": document.version, "clientToken": token}
        body |= {"jobID": request.get("jobID"), "status": status}
        if "accepted-without-status" in self.bugs:
            del body["status"]
        if "accepted-other-state" in self.bugs and status == "SUCCESS":
            body["state"] = {"reported": {"software": {"version": "0.0.1"}}}
        if "accepted-other-token" in self.bugs and status:
            body["clientToken"] = self.token
        document.answered[payload] = f"{topic}/accepted", dict(body)
        no: dict[str, Any] = {"code": 500, "message": "something went wrong", "clientToken": token}
        if "rejects-with-500-then-accepts" in self.bugs and status:
            await self.say(f"{topic}/rejected", dict(no))
        await self.say(f"{topic}/accepted", body)
        if "two-answers" in self.bugs and status:
            await self.say(f"{topic}/rejected", no | {"code": 400})
        await self.tell(thing, document, state, status)

    def checked(self, document: Document, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Desired and reported as they are after this request. Raises Refused for one that must not be taken."""
        state = request.get("state")
        if not isinstance(state, dict):
            if "accepts-non-object" in self.bugs:
                request["state"] = {}
                return document.desired, document.reported
            raise Refused(400, "state is no object")
        parts = {name: state[name] for name in ("desired", "reported") if name in state}
        if not all(isinstance(part, dict | None) for part in parts.values()):
            raise Refused(400, "desired or reported is no object")
        if "accepts-too-deep" not in self.bugs and depth(parts) - 1 > DEPTH_MAX:
            raise Refused(400, f"more than {DEPTH_MAX} levels")
        if "accepts-null-in-array" not in self.bugs and null_in_array(parts):
            raise Refused(400, "null in an array")
        expected = request.get("version")
        if expected is not None and (not isinstance(expected, int) or isinstance(expected, bool)):
            raise Refused(400, "version is no whole number")
        right = expected in (None, document.version) or "accepts-lost-version" in self.bugs
        if not right or ("refuses-right-version" in self.bugs and expected is not None):
            raise Refused(409, "version conflict")
        merged = []
        for name, old in (("desired", document.desired), ("reported", document.reported)):
            part = parts.get(name, {})
            merged.append({} if part is None else merge(old, part, "no-null-delete" in self.bugs))
        size = sum(len(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()) for part in merged if part)
        if size > DOCUMENT_MAX and "accepts-too-large" not in self.bugs:
            raise Refused(413, f"the document has more than {DOCUMENT_MAX} bytes")
        return merged[0], merged[1]

    def delta(self, document: Document) -> dict[str, Any]:
        """What of desired differs from reported; a difference of the software always names its URL."""
        found = differing(document.desired, document.reported)
        wanted = document.desired.get("software")
        if isinstance(found.get("software"), dict) and isinstance(wanted, dict) and "softwareURL" in wanted:
            found["software"] = {**found["software"], "softwareURL": wanted["softwareURL"]}
            if "delta-without-url" in self.bugs:
                del found["software"]["softwareURL"]
        return found

    def download(self, thing: str, document: Document, delta: dict[str, Any]) -> dict[str, Any] | None:
        """The leave to download for a delta of this artifact."""
        software = document.desired.get("software") if delta else None
        if not isinstance(software, dict) or software.get("softwareURL") != self.storage.url:
            return None
        fresh = self.storage.download(thing)
        document.url = document.url or fresh
        return document.url if "signs-once" in self.bugs else fresh

    async def tell(self, thing: str, document: Document, state: dict[str, Any], status: str | None) -> None:
        """Publish the delta that belongs to the update just accepted."""
        state_of = self.delta(document)
        if "delta-when-equal" in self.bugs and not state_of and "software" in document.desired:
            state_of = {"software": document.desired["software"]}
        topic = f"state/{thing}/update/delta"
        if "delta-after-end" in self.bugs and status == "SUCCESS" and document.deltas:
            await self.say(topic, document.deltas[-1] | {"version": document.version})
        missing = "delta-missing" if "desired" in state else "delta-missing-later"
        if not state_of or missing in self.bugs:
            return
        body = {
            "state": state_of,
            "jobID": f"{document.job}-b" if "delta-of-other-job" in self.bugs else document.job,
            "version": document.version - ("delta-old-version" in self.bugs),
            "download": self.download(thing, document, state_of),
        }
        if "delta-without-download" in self.bugs:
            del body["download"]
        await self.say(topic, dict(body))
        older = [delta for delta in document.deltas if delta["jobID"] != body["jobID"]]
        if "delta-stale" in self.bugs and older:
            await self.say(topic, dict(older[-1]))
        document.deltas.append(body)
        if "delta-to-all" in self.bugs and self.last not in ("", thing):
            await self.say(f"state/{self.last}/update/delta", dict(body))


async def main(words: argparse.Namespace) -> None:
    bugs = set(words.bug)
    broker = urlsplit(words.broker)
    storage = Storage(f"http://127.0.0.1:{words.http_port}", words.ttl, bugs)
    server = await asyncio.start_server(storage.serve, "127.0.0.1", words.http_port)
    async with server, aiomqtt.Client(broker.hostname or "127.0.0.1", broker.port or 1883) as client:
        replica = Replica(client, storage, bugs)
        await client.subscribe([("state/+/update", 1), ("state/+/get", 1)])
        print("ready", storage.url, flush=True)
        async for message in client.messages:
            await replica.hear(str(message.topic), bytes(message.payload or b""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--ttl", type=float, default=3600.0, help="seconds that a signed URL is valid")
    parser.add_argument("--bug", action="append", default=[], choices=sorted(BUGS), metavar="NAME")
    try:
        asyncio.run(main(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(0)
