"""Artifacts that were uploaded are there again, whole, when a storage starts anew."""

from simulator.backend.shelf import Shelf
from simulator.backend.storage import Storage


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
