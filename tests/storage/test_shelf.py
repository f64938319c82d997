"""Artifacts that were uploaded are there again, whole, when a storage starts anew, and a replica signs for them."""

import hashlib

import pytest

from simulator.model.io import Request
from simulator.storage.core import Known, Storage
from simulator.storage.shelf import Catalogue, Shelf


def test_what_was_kept_is_loaded_with_its_name_version_and_bytes(tmp_path):
    shelf = Shelf(tmp_path / "artifacts")
    shelf.load(Storage("", b"k"))  # nothing yet
    shelf.keep("app", "2.0.0", b"two")
    shelf.keep("a/b ü", "1+x", b"other")
    shelf.keep("app", "2.0.0", b"two")
    anew = Storage("http://s", b"k")
    Shelf(tmp_path / "artifacts").load(anew)
    assert {(s.path, s.content) for s in anew.artifacts.values()} == {
        ("/artifacts/app/2.0.0", b"two"),
        ("/artifacts/a%2Fb%20%C3%BC/1%2Bx", b"other"),
    }
    assert anew.at("a/b ü", "1+x").content == b"other"


def test_what_was_half_written_is_not_there(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.keep("app", "1", b"one")
    (tmp_path / "part-x").write_bytes(b"tw")
    anew = Storage("", b"k")
    shelf.load(anew)
    assert list(anew.artifacts) == ["/artifacts/app/1"]


def test_a_replica_signs_for_what_a_storage_has_kept_and_the_storage_honours_it(tmp_path):
    storage, shelf = Storage("http://s", b"k"), Shelf(tmp_path)
    catalogue = Catalogue("http://s", b"k", Shelf(tmp_path))
    url = storage.put("a/b ü", "1+x", b"other").url
    assert catalogue.known(url) is None
    shelf.keep("a/b ü", "1+x", b"other")
    known = catalogue.known(url)
    assert known == storage.known(url) == Known(url.removeprefix("http://s"), 5, hashlib.sha256(b"other").hexdigest())
    assert storage.serve(Request("GET", catalogue.presign(known, "d", 100)), 99)[0].body == b"other"
    grant = (("authorization", catalogue.credential(known, "d", 100)),)
    assert storage.serve(Request("GET", url, grant), 99)[0].body == b"other"
    assert storage.serve(Request("GET", url, grant), 101)[0].status == 403


def test_what_a_replica_has_seen_on_the_shelf_it_need_not_see_again(tmp_path):
    Shelf(tmp_path).keep("app", "1", b"one")
    catalogue = Catalogue("http://s", b"k", Shelf(tmp_path))
    known = catalogue.known("http://s/artifacts/app/1")
    (tmp_path / "app" / "1").unlink()
    assert catalogue.known("http://s/artifacts/app/1") is known


@pytest.mark.parametrize(
    "url",
    [
        "http://s/artifacts/app/2", "http://s/artifacts/app", "http://s/app/1", "http://s/artifacts/app/1/", "http://s",
        "http://other/artifacts/app/1", "http://s/artifacts/app/%31", "http://s/artifacts/../secret", "http://s/artifacts/app/.",
        "http://s/artifacts/%2E%2E/secret", "http://s/artifacts/app/..", "http://s/artifacts/app/" + "x" * 300,
        "http://s/artifacts/app/1?a=b", "http://s/artifacts/app/\0",
    ],
)  # fmt: skip
def test_no_url_finds_what_is_not_on_the_shelf(tmp_path, url):
    (tmp_path / "secret").write_bytes(b"secret")
    Shelf(tmp_path / "shelf").keep("app", "1", b"one")
    assert Catalogue("http://s", b"k", Shelf(tmp_path / "shelf")).known(url) is None
