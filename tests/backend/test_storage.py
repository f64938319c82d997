"""The storage: immutable artifacts, leave for one thing and a while, ranges."""

import pytest

from simulator.backend.storage import Storage
from simulator.model.errors import ScenarioError
from simulator.model.io import Request

BASE = "http://s"
CONTENT = bytes(range(100))


@pytest.fixture
def storage():
    made = Storage(BASE, b"key")
    made.put("app", "2", CONTENT)
    made.put("app", "3", b"other")
    return made


def get(storage, url, now=0, address="", **headers):
    wanted = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return storage.serve(Request("GET", url, wanted), now, address)[0]


def signed(storage, version="2", **more):
    return storage.presign(storage.find(f"{BASE}/artifacts/app/{version}"), "d", 100, **more)


def test_other_bytes_under_the_same_version_are_refused(storage):
    storage.put("app", "2", CONTENT)
    with pytest.raises(ScenarioError, match="app 2"):
        storage.put("app", "2", b"changed")


def test_a_signed_url_opens_until_it_expires(storage):
    assert get(storage, signed(storage), now=100).body == CONTENT
    assert get(storage, signed(storage), now=101).status == 403


@pytest.mark.parametrize(("old", "new"), [("thing=d", "thing=e"), ("expires=100", "expires=900"), ("/app/2", "/app/3")])
def test_tampering_is_refused(storage, old, new):
    assert old in signed(storage)
    assert get(storage, signed(storage).replace(old, new)).status == 403


def test_an_address_binds(storage):
    url = signed(storage, address="10.0.0.1")
    assert get(storage, url, address="10.0.0.1").status == 200
    assert get(storage, url, address="10.0.0.2").status == 403
    assert get(storage, url.replace("&address=10.0.0.1", ""), address="10.0.0.2").status == 403


def test_a_credential_opens_its_artifact_only(storage):
    leave = storage.credential(storage.find(f"{BASE}/artifacts/app/2"), "d", 100)
    assert get(storage, f"{BASE}/artifacts/app/2", authorization=leave).status == 200
    assert get(storage, f"{BASE}/artifacts/app/3", authorization=leave).status == 403
    assert get(storage, f"{BASE}/artifacts/app/2", now=101, authorization=leave).status == 403
    assert get(storage, f"{BASE}/artifacts/app/2").status == 403


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=10-", 206, CONTENT[10:]),
        ("bytes=10-19", 206, CONTENT[10:20]),
        ("bytes=-5", 206, CONTENT[-5:]),
        ("bytes=99-500", 206, CONTENT[99:]),
        ("bytes=100-", 416, b""),
        ("lines=1-2", 200, CONTENT),
    ],
)
def test_ranges(storage, asked, status, part):
    answer = get(storage, signed(storage), range=asked)
    assert (answer.status, bytes(answer.body)) == (status, part)
    if status == 416:
        assert answer.header("content-range") == "bytes */100"


def test_if_range_of_another_content_gives_the_whole(storage):
    assert get(storage, signed(storage), range="bytes=10-", if_range='"other"').status == 200
