"""The storage: immutable artifacts, grant for one thing and a while, ranges."""

import pytest

from simulator.model.errors import ScenarioError
from simulator.model.io import Request
from simulator.storage.core import Storage

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
    grant = storage.credential(storage.find(f"{BASE}/artifacts/app/2"), "d", 100)
    assert get(storage, f"{BASE}/artifacts/app/2", authorization=grant).status == 200
    assert get(storage, f"{BASE}/artifacts/app/3", authorization=grant).status == 403
    assert get(storage, f"{BASE}/artifacts/app/2", now=101, authorization=grant).status == 403
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


@pytest.mark.parametrize("thing", ["device.1", "a b/c", "ä", "d&thing=e", "line\nbreak"])
def test_a_grant_is_for_a_thing_of_any_name(storage, thing):
    stored = storage.at("app", "2")
    for url, headers in (
        (storage.presign(stored, thing, 100), {}),
        (f"{BASE}/artifacts/app/2", {"authorization": storage.credential(stored, thing, 100)}),
    ):
        response, served = storage.serve(Request("GET", url, tuple(headers.items())), 0)
        assert (response.status, served.thing) == (200, thing)


def test_a_credential_tampered_with_is_refused(storage):
    grant = storage.credential(storage.at("app", "2"), "d", 100)
    assert get(storage, f"{BASE}/artifacts/app/2", authorization=grant).status == 200
    for changed in (grant.replace("d.", "e."), grant.replace("100", "900"), grant[:-1], grant[:-1] + "é", "Bearer "):
        assert get(storage, f"{BASE}/artifacts/app/2", authorization=changed).status == 403
    assert get(storage, f"{signed(storage).partition('signature')[0]}signature=%C3%A9").status == 403


def test_a_url_opens_nothing_under_another_key(storage):
    other = Storage(BASE, b"another key")
    other.put("app", "2", CONTENT)
    assert get(other, signed(storage)).status == 403


def test_a_path_means_the_same_however_a_client_encodes_it(storage):
    storage.put("my app", "2.0.0+b~1!", b"odd")
    url = storage.presign(storage.at("my app", "2.0.0+b~1!"), "d", 100)
    assert "/my%20app/2.0.0%2Bb~1%21?" in url
    for other in (url, url.replace("%2B", "%2b"), url.replace("%21", "!"), url.replace("~", "%7e")):
        assert get(storage, other).body == b"odd"


@pytest.mark.parametrize(("name", "version"), [("..", "2"), ("app", ".."), ("", "2"), ("app", ".")])
def test_a_name_that_a_url_cannot_hold_is_refused(storage, name, version):
    with pytest.raises(ScenarioError, match="part of a URL"):
        storage.put(name, version, b"")


def test_a_head_tells_of_the_whole_and_carries_nothing(storage):
    wanted = Request("HEAD", signed(storage), (("range", "bytes=10-"),))
    response, served = storage.serve(wanted, 0)
    assert (response.status, response.header("content-length"), response.body) == (200, "100", b"")
    assert served.size == 0
    assert response.header("etag") == get(storage, signed(storage)).header("etag")


def test_if_range_of_the_same_content_gives_the_part(storage):
    whole = get(storage, signed(storage))
    part = get(storage, signed(storage), range="bytes=10-", if_range=whole.header("etag"))
    assert (part.status, part.header("content-range"), part.body) == (206, "bytes 10-99/100", CONTENT[10:])


def test_nothing_is_told_of_what_is_not_there_without_a_grant(storage):
    assert get(storage, f"{BASE}/artifacts/app/9").status == 403
    assert storage.serve(Request("POST", signed(storage)), 0)[0].status == 405
