"""The download against servers that behave in every way: cut, resume, ignored Range, changed content, refusals."""

import hashlib

import pytest
from msgspec.structs import replace

from simulator.device.agent import Partial
from simulator.device.download import DownloadFailed, Terms, download
from simulator.device.sources import Grant, HttpSource
from simulator.links.clock import run_virtual
from simulator.links.memory_http import MemoryHttp
from simulator.model.io import Response
from simulator.model.scenario import Backoff
from simulator.model.update import Artifact

CONTENT = bytes(range(250)) * 4
sha = hashlib.sha256
SHA = sha(CONTENT).hexdigest()


def fetch(answers, *, size=len(CONTENT), sha256=SHA, partial=None, attempts=6, away=lambda: 0.0):
    """Run a download against a server that gives these answers in turn; (result, requests seen, pieces)."""
    seen, pieces, turns = [], [], iter(answers)

    def serve(request):
        seen.append((request.url, dict(request.headers)))
        return next(turns)

    async def main(loop):
        terms = Terms(0.0, 10_000, 60.0, Backoff(base=1, attempts=attempts), lambda nth: 1.0, away)
        urls = iter(["u1", "u2", "u3"])

        async def grant(fresh):
            return Grant(next(urls))

        return await download(
            HttpSource(MemoryHttp(serve)),
            Artifact("2", "stable", size, sha256),
            terms,
            partial,
            grant=grant,
            keep=lambda kept: None,
            record=pieces.append,
        )

    return run_virtual(main), seen, pieces


def whole(body=CONTENT, etag='"e"', length=len(CONTENT)):
    return Response(200, (("etag", etag), ("content-length", str(length))), body)


def part(offset, etag='"e"', total=len(CONTENT), claimed=None, body=None):
    said = f"bytes {offset if claimed is None else claimed}-{total - 1}/{total}"
    return Response(206, (("etag", etag), ("content-range", said)), CONTENT[offset:] if body is None else body)


WRONG = b"?" * 600
CUT = whole(CONTENT[:400])  # says 1000 bytes, brings 400


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([whole()], id="at once"),
        pytest.param([CUT, part(400)], id="resumed"),
        pytest.param([CUT, whole()], id="Range ignored"),
        pytest.param([CUT, part(400, claimed=100, body=WRONG), whole()], id="wrong Content-Range"),
        pytest.param([CUT, part(400, etag='"new"', body=WRONG), whole(etag='"new"')], id="another content"),
        pytest.param([CUT, Response(416, (("content-range", "bytes */300"),)), whole()], id="not satisfiable"),
        pytest.param([Response(503, (("retry-after", "5"),)), whole()], id="busy"),
    ],
)
def test_ends_with_the_right_bytes(answers):
    done, _, _ = fetch(answers)
    assert (done.received, done.hasher.hexdigest()) == (len(CONTENT), SHA)


def test_resumes_with_range_and_if_range():
    _, seen, pieces = fetch([CUT, part(400)])
    assert seen[1][1] == {"range": "bytes=400-", "if-range": '"e"'}
    assert [(p.offset, p.received) for p in pieces] == [(0, 400), (400, 600)]


def test_a_refused_url_is_asked_for_anew():
    _, seen, _ = fetch([CUT, Response(403), part(400)])
    assert [url for url, _ in seen] == ["u1", "u1", "u2"]


def kept(received=400, etag='"e"', **artifact):
    """What an earlier attempt left in flash."""
    content = CONTENT[:received]
    return Partial(replace(Artifact("2", "stable", len(CONTENT), SHA), **artifact), etag, received, sha(content))


def test_goes_on_where_a_power_cut_left_it():
    done, seen, _ = fetch([part(400)], partial=kept())
    assert done.hasher.hexdigest() == SHA
    assert "range" in seen[0][1]


@pytest.mark.parametrize("other", [{"url": "other"}, {"sha256": "0"}, {"size_bytes": 7}, {"version": "1"}])
def test_what_another_artifact_left_is_not_gone_on_with(other):
    done, seen, _ = fetch([whole()], partial=kept(**other))
    assert done.hasher.hexdigest() == SHA
    assert seen[0][1] == {}


def test_what_is_there_whole_is_not_asked_for():
    done, seen, _ = fetch([], partial=kept(1000))
    assert (done.hasher.hexdigest(), seen) == (SHA, [])


@pytest.mark.parametrize("etag", ["", 'W/"e"'], ids=["none", "weak"])
def test_if_range_holds_no_weak_etag(etag):
    _, seen, _ = fetch([part(400, etag=etag)], partial=kept(etag=etag))
    assert seen[0][1] == {"range": "bytes=400-"}


def test_an_unannounced_size_ends_with_the_body():
    done, _, _ = fetch([Response(200, (), CONTENT)], size=None)
    assert done.received == len(CONTENT)


def unannounced(answers, received=400):
    partial = kept(received, size_bytes=None, sha256=None)
    done, seen, _ = fetch(answers, size=None, sha256=None, partial=partial)
    return done.hasher.hexdigest() == SHA, [dict(headers).get("range") for _, headers in seen]


def test_an_unannounced_size_is_learned_from_content_range():
    first = Response(206, (("content-range", "bytes 400-599/1000"),), CONTENT[400:600])
    assert unannounced([first, part(600)]) == (True, ["bytes=400-", "bytes=600-"])


def test_an_unannounced_size_that_was_there_whole_already_is_found_out_by_416():
    whole_already = Response(416, (("content-range", "bytes */1000"),))
    assert unannounced([whole_already], 1000) == (True, ["bytes=1000-"])
    assert unannounced([whole_already, whole()], 400) == (True, ["bytes=400-", None])


@pytest.mark.parametrize(
    "said", ["", "bytes 400-999", "bytes */1000", "items 400-999/1000", f"bytes 400-{'9' * 5000}/1000"],
)  # fmt: skip
def test_a_content_range_that_says_nothing_starts_afresh(said):
    done, seen, _ = fetch([CUT, Response(206, (("content-range", said),), CONTENT[400:]), whole()])
    assert done.hasher.hexdigest() == SHA
    assert "range" not in seen[2][1]


def test_a_retry_after_that_is_no_number_is_none():
    done, _, _ = fetch([Response(503, (("retry-after", "²"),)), whole()])
    assert done.received == len(CONTENT)


def test_what_brings_something_new_is_no_failure_of_the_budget():
    cuts = [replace(part(n), body=CONTENT[n : n + 100]) for n in range(400, 900, 100)]
    done, _, _ = fetch([CUT, *cuts, part(900)], attempts=2)
    assert done.hasher.hexdigest() == SHA
    with pytest.raises(DownloadFailed):
        fetch([CUT] * 6)


def test_a_refusal_that_comes_as_the_device_goes_away_has_it_ask_anew_all_the_same():
    left = iter([0.0, 60.0, 0.0, 0.0])  # there as it asks; away when the answer comes
    _, seen, _ = fetch([Response(403), whole()], away=lambda: next(left))
    assert [url for url, _ in seen] == ["u1", "u2"]


def test_nothing_is_asked_while_the_device_is_away():
    left = iter([30.0, 30.0, 0.0, 0.0])
    _, _, pieces = fetch([whole()], away=lambda: next(left))
    assert [(p.began, p.status, p.error) for p in pieces] == [(0, 0, "offline"), (30, 200, "")]


def test_more_than_announced_is_never_taken():
    with pytest.raises(DownloadFailed):
        fetch([whole(CONTENT + b"!", length=1001)] * 6)


def test_gives_up_when_the_budget_is_spent():
    with pytest.raises(DownloadFailed, match="503"):
        fetch([Response(503)] * 3, attempts=3)
    with pytest.raises(DownloadFailed, match="404"):
        fetch([Response(404)])
