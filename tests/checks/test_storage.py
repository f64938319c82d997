"""Checks on the storage: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

import json

from tests.checks.tables import proofs
from tests.checks.traces import NEW, OLD, backed, with_after, without

S14, S15 = "S14-url", "S15-range"
JOB, RETRY = "r.d-0.0", "r.d-0.1"
DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
EXTERNAL = {"target": {"kind": "external", "artifact_url": "http://cdn/a"}}
CREDENTIAL = {"target": {"access": "credential"}}
GRANTED = ("replica.credential", "d-0", {"job": JOB, "status": "granted"})


def piece(status, offset=0, size=0, at=None, thing="d-0", job=JOB, **detail):
    said = {"offset": offset, "etag": "e", **detail}
    timed = {} if at is None else {"t_us": at}
    return ("download", thing, {"job": job, "status": status, "size": size, "detail": json.dumps(said), **timed})


def served(status, size, at=None, thing="d-0", digest=NEW):
    return ("storage.served", thing, {"status": status, "size": size, "digest": digest}
            | ({} if at is None else {"t_us": at}))  # fmt: skip


def struck(thing, **what):
    """A fault that answered in the storage's place, or did something else."""
    return ("fault", thing, {"status": "did", "phase": "F8", "detail": json.dumps(what or {"answer": 403})})


def heard(status, at, span_us=HOUR_US, job=JOB):
    return ("delta", "d-0", {"job": job, "status": status, "t_us": at, "span_us": span_us, "size": 9, "digest": NEW})


def resumed(*pieces, first=5):
    """An update whose download went on with these pieces."""
    return with_after(backed(download={"size": first}), "download", *pieces)


PASSES = {
    S14: {
        "success": backed(),
        "refused past the end": with_after(backed(), "offer", piece("403", at=2 * HOUR_US)),
        "refused, asked anew, refused past the new end": [
            *backed(), piece("403", at=2 * HOUR_US), heard("running", 2 * HOUR_US + 5),
            piece("403", at=4 * HOUR_US)],
        "refused by a fault in the storage's place": with_after(
            backed(), "start", struck("d-0"), piece("403", error="http 403"), struck("d-0"), piece("403")),
        "refused twice before the answer came": [
            *backed(), piece("403", at=2 * HOUR_US), heard("running", 2 * HOUR_US + 5),
            piece("403", at=2 * HOUR_US + 9)],
        "served within the skew of clocks": [*backed(), served("206", 4, HOUR_US + 500_000)],
        "served by a newer leave": [*backed(), heard("running", DAY_US), served("206", 4, DAY_US + 9)],
        "a stranger refused": [*backed(), served("403", 0, thing="", digest=None)],
        "refused by a fault in its stead": with_after(
            backed(), "start", ("fault", "d-0", {"status": "did", "detail": '{"request":"GET","answer":403}'}),
            piece("403")),
        "by a credential": (with_after(backed(delta={"size": 9}), "start", GRANTED), CREDENTIAL),
        "refused when the credential was lost": (
            with_after(backed(delta={"size": 9}), "start", GRANTED, piece("403")), CREDENTIAL),
        "a storage that is already there": (backed(served=None), EXTERNAL),
    },
    S15: {
        "success": backed(),
        "resumed": resumed(piece("206", 5, 3), piece("206", 8, 1)),
        "resumed under a later job": [
            *resumed(first=5), heard("start", 90, job=RETRY), piece("206", 5, 4, at=99, job=RETRY)],
        "cut before the first byte": resumed(piece("206", 5, 0, error="connection lost"), piece("206", 5, 4)),
        "whole again": resumed(piece("200", 0, 9)),
        "nothing left": resumed(piece("416"), first=9),
        "a HEAD": [*backed(), served("200", 0)],
        "a range": [*backed(), served("206", 4)],
        "a refusal": [*backed(), served("403", 0, thing="", digest=None), piece("403", at=99)],
        "a storage that is already there": (backed(served=None), EXTERNAL),
    },
}  # fmt: skip
FAILS = {
    S14: {
        "served to nobody": ([*backed(), served("200", 9, thing="")], [], {"kind": "storage.served"}),
        "served past the end": ([*backed(), served("206", 4, 2 * HOUR_US)], ["d-0"], {"status": "206"}),
        "served to one that never had leave": (
            [*backed(), *backed("d-1", "r.d-1.0", delta={"thing": "d-2"})], ["d-1"], {"kind": "storage.served"}),
        "served past the end of a credential": (
            ([*with_after(backed(), "start", GRANTED), heard("running", DAY_US), served("206", 4, DAY_US + 9)],
             CREDENTIAL), ["d-0"], {"status": "206"}),
        "refused, though the leave was good": (with_after(backed(), "start", piece("403", error="http 403")), ["d-0"],
                                              {"kind": "download", "status": "403"}),
        "refused, and no fault had done it": (
            with_after(backed(), "start", struck("d-0"), piece("403"), struck("d-1"), struck("d-0", lost=True),
                       piece("403", error="again")),
            ["d-0"], {"kind": "download", "detail": '{"offset": 0, "etag": "e", "error": "again"}'}),
        "refused, though asked anew": (
            [*backed(), piece("403", at=2 * HOUR_US), heard("running", 2 * HOUR_US + 5),
             piece("403", at=4 * HOUR_US), heard("running", 4 * HOUR_US + 5), heard("running", 4 * HOUR_US + 6),
             piece("403", at=6 * HOUR_US), piece("403", at=6 * HOUR_US + 1, thing="d-1"),
             heard("running", 6 * HOUR_US + 5), piece("403", at=8 * HOUR_US), piece("403", at=8 * HOUR_US + 1),
             heard("running", 9 * HOUR_US), piece("403", at=9 * HOUR_US + 2), piece("403", at=9 * HOUR_US + 3)],
            ["d-0"], {"kind": "download", "t_us": 9 * HOUR_US + 3}),
        "the same by a storage that is already there": (
            (with_after(backed(served=None), "start", piece("403")), EXTERNAL), ["d-0"], {"status": "403"}),
    },
    S15: {
        "from another place": (resumed(piece("206", 6, 3)), ["d-0"], {"status": "206"}),
        "a part, and there was nothing before": (backed(download={"status": "206", "detail": '{"offset":3}', "size": 6}),
                                                 ["d-0"], {"kind": "download"}),
        "a part of what another device has": (
            [*backed(), *backed("d-1", "r.d-1.0"), piece("206", 9, 1, thing="d-2")], ["d-2"], {"status": "206"}),
        "a part that the device did not take": (
            resumed(piece("206", 5, 0, error="206 with a wrong Content-Range"), piece("200", 0, 9)), ["d-0"],
            {"status": "206"}),
        "more than announced": (backed(download={"size": 10}), ["d-0"], {"kind": "download"}),
        "more than announced, in parts": (resumed(piece("206", 5, 5)), ["d-0"], {"status": "206"}),
        "nothing left, they say": (resumed(piece("416"), piece("200", 0, 9)), ["d-0"], {"status": "416"}),
        "half of the artifact, sent as the whole": (backed(served={"size": 4}), ["d-0"], {"kind": "storage.served"}),
        "a part of nothing": ([*backed(), served("206", 0)], ["d-0"], {"status": "206"}),
        "a part larger than the whole": ([*backed(), served("206", 10)], ["d-0"], {"status": "206"}),
        "bytes beyond the end": ([*backed(), served("416", 1)], ["d-0"], {"status": "416"}),
    },
}  # fmt: skip
LACKS = {
    S14: {
        "downloads": backed(served=None, download=None),
        "the storage": backed(served=None),
        "leaves": without(backed(), ("delta", "start")),
        "the end of a leave": with_after(backed(delta={"size": 9}), "start", piece("403")),
        "the end of the device's record": backed(retired=None, delta={"thing": "d-2"}),
    },
    S15: {
        "downloads": backed(served=None, download=None),
        "the storage": backed(served=None),
        "devices": backed(download=None),
        "sizes": backed(delta={}),
        "an artifact's size": [*backed(), served("206", 4, digest=OLD)],
    },
}


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS)
