"""Artifact stores by name: a stand-in that somebody adds, and our own seen from another process than the one that serves."""

import asyncio
import hashlib

import pytest

from simulator.model.errors import NotSimulated, ScenarioError
from simulator.model.events import Kind
from simulator.model.io import Request, Response
from simulator.model.update import Artifact
from simulator.storage.core import Known, Served
from simulator.storage.shelf import Shelf
from simulator.storage.store import STORES, ArtifactStore, EmbeddedStore, InProcessStore, Place, StoreKind, kind_of
from tests.worlds.virtually import judged, scenario


class Bucket:
    """A stand-in for somebody's object store: flat keys, URLs that open for whoever knows them until they expire."""

    def __init__(self, place):
        self.base, self.objects, self.signed = place.base, {}, []

    async def put(self, name, version, content):
        url = f"{self.base}/{name}-{version}.bin"
        self.objects[url] = content
        return Artifact(version, url, len(content), hashlib.sha256(content).hexdigest())

    def known(self, url):
        content = self.objects.get(url)
        return None if content is None else Known(url, len(content), hashlib.sha256(content).hexdigest())

    def presign(self, artifact, thing, expires, address=""):
        self.signed.append(thing)
        return f"{artifact.path}?for={thing}&until={expires}"

    def credential(self, artifact, thing, expires):
        raise NotSimulated("temporary credentials")

    def serve(self, request, now, address):
        url, _, query = request.url.partition("?")
        thing = query.partition("&")[0].removeprefix("for=")
        content = self.objects[url]
        return Response(200, (("content-length", str(len(content))),), content), Served(
            thing, 200, len(content), hashlib.sha256(content).hexdigest(), url
        )


@pytest.fixture
def buckets(monkeypatch):
    """The stores that were opened under the name `bucket`."""
    opened = []

    def open_(place):
        opened.append(Bucket(place))
        return opened[-1]

    monkeypatch.setitem(STORES, "bucket", StoreKind(open_, process=False))
    return opened


def test_a_store_that_somebody_adds_serves_a_whole_run_by_its_name(buckets):
    trace, findings = judged(scenario(devices=3, target={"storage": "bucket"}))
    assert findings == {}
    things = {f"device-{n}" for n in range(3)}
    assert set(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED").texts("thing")) == things
    (bucket,) = buckets
    assert set(bucket.signed) == things
    assert [url.rpartition("/")[2] for url in bucket.objects] == ["rollout-1-2.0.0.bin"]
    assert {thing for thing in trace.kind(Kind.SERVED).texts("thing") if thing} == things


def test_a_store_whose_downloads_others_answer_is_refused_in_virtual_time(monkeypatch):
    class Away(Bucket):
        serve = None

    monkeypatch.setitem(STORES, "away", StoreKind(Away, process=False))
    with pytest.raises(NotSimulated):
        judged(scenario(devices=1, target={"storage": "away"}))


@pytest.mark.parametrize(("name", "hint"), [("embeded", "; did you mean embedded?"), ("s3", ""), ("", "")])
def test_a_name_that_no_store_has_is_said(name, hint):
    with pytest.raises(ScenarioError) as refused:
        kind_of(name)
    assert str(refused.value) == f"target.storage: {name!r} is none of embedded{hint}"


@pytest.mark.parametrize("size", [0, 3])
def test_our_own_signs_in_one_process_what_another_serves(tmp_path, size):
    content = b"x" * size
    here: ArtifactStore = kind_of("embedded").open(Place("http://s", b"k"))
    there: ArtifactStore = kind_of("embedded").open(Place("http://s", b"k", tmp_path))
    assert (type(here), type(there)) == (InProcessStore, EmbeddedStore)
    assert there.serve is None
    artifact = asyncio.run(here.put("app", "2", content))
    assert there.known(artifact.url) is None  # nobody has put it into the directory yet
    Shelf(tmp_path).keep("app", "2", content)
    known = there.known(artifact.url)
    assert known == here.known(artifact.url)
    request = Request("GET", there.presign(known, "d", 100))
    assert here.serve(request, 99.0, "")[0].body == content
    assert here.serve(request, 101.0, "")[0].status == 403
