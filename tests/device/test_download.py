"""The download against servers that behave in every way: cut, resume, ignored Range, changed content, refusals."""

import hashlib

import pytest

from simulator.device.agent import Partial
from simulator.device.download import DownloadFailed, Leave, Terms, download
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryHttp
from simulator.model.io import Response
from simulator.model.scenario import Backoff
from simulator.model.update import Artifact

CONTENT = bytes(range(250)) * 4
SHA = hashlib.sha256(CONTENT).hexdigest()


def fetch(answers, *, size=len(CONTENT), partial=None, attempts=6):
    """Run a download against a server that gives these answers in turn; (result, requests seen, pieces)."""
    seen, pieces, turns = [], [], iter(answers)

    def serve(request):
        seen.append((request.url, dict(request.headers)))
        return next(turns)

    async def main(loop):
        terms = Terms(0.0, 10_000, 60.0, Backoff(base=1, attempts=attempts), lambda nth: 1.0)
        urls = iter(["u1", "u2", "u3"])

        async def leave(fresh):
            return Leave(next(urls))

        return await download(
            MemoryHttp(serve),
            Artifact("2", "stable", size, SHA),
            terms,
            partial,
            leave=leave,
            keep=lambda kept: None,
            record=pieces.append,
        )

    return run_virtual(main), seen, pieces


def whole(body=CONTENT, etag='"e"', length=len(CONTENT)):
    return Response(200, (("etag", etag), ("content-length", str(length))), body)


def part(offset, etag='"e"', total=len(CONTENT), claimed=None):
    said = f"bytes {offset if claimed is None else claimed}-{total - 1}/{total}"
    return Response(206, (("etag", etag), ("content-range", said)), CONTENT[offset:])


CUT = whole(CONTENT[:400])  # says 1000 bytes, brings 400


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([whole()], id="at once"),
        pytest.param([CUT, part(400)], id="resumed"),
        pytest.param([CUT, whole()], id="Range ignored"),
        pytest.param([CUT, part(400, claimed=100), whole()], id="wrong Content-Range"),
        pytest.param([CUT, part(400, etag='"new"'), whole(etag='"new"')], id="another content"),
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


def test_goes_on_where_a_power_cut_left_it():
    kept = Partial("stable", '"e"', 400, hashlib.sha256(CONTENT[:400]))
    done, seen, _ = fetch([part(400)], partial=kept)
    assert done.hasher.hexdigest() == SHA
    assert "range" in seen[0][1]


def test_an_unannounced_size_ends_with_the_body():
    done, _, _ = fetch([Response(200, (), CONTENT)], size=None)
    assert done.received == len(CONTENT)


def test_more_than_announced_is_never_taken():
    with pytest.raises(DownloadFailed):
        fetch([whole(CONTENT + b"!", length=1001)] * 6)


def test_gives_up_when_the_budget_is_spent():
    with pytest.raises(DownloadFailed, match="503"):
        fetch([Response(503)] * 3, attempts=3)
    with pytest.raises(DownloadFailed, match="404"):
        fetch([Response(404)])
