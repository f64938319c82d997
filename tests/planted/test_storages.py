"""Storages with one bug each: the named check finds it, and without the bug all pass."""

import pytest
from msgspec.structs import replace

from simulator.model.io import Response
from simulator.storage.core import Storage
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import judged, scenario


class RottenStorage(Storage):
    """Serves device-2 a byte that is not the artifact's."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if served.thing == "device-2" and response.body:
            response = replace(response, body=b"\0" + response.body[1:])
        return response, served


class Rotten(Storage):
    """Serves everybody a byte that is not the artifact's."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if response.body:
            response = replace(response, body=b"\0" + response.body[1:])
        return response, served


def test_s10_corrupt_bytes_on_a_device_that_does_not_verify():
    made = scenario(devices=5, profile="trusting", profiles={"trusting": {"mishaps": {"verify": {"lie": "100%"}}}})
    assert fails("S10-integrity", made, storage=RottenStorage) == {"device-2"}
    passes(made)
    _, findings = judged(scenario(devices=5), storage=RottenStorage)
    assert "S10-integrity" not in findings  # a device that verifies refuses them


class Failing(Storage):
    """Answers device-1's first request 500."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._failed = False

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if served.thing == "device-1" and not self._failed:
            self._failed = True
            return Response(500), replace(served, status=500)
        return response, served


def test_l11_a_storage_that_spoils_a_download_though_nobody_asked_it_to():
    made = scenario(devices=5)
    assert fails("L11-unplanted", made, storage=RottenStorage) == {"device-2"}
    assert fails("L11-unplanted", made, storage=Failing) == {"device-1"}
    passes(made)
    planted = scenario(devices=5, faults=[{"fault": "F11-corrupt"}, {"fault": "F8-storage-refuses"}])
    _, findings = judged(planted)
    assert "L11-unplanted" not in findings


def test_l11_a_rollout_of_which_all_fail_is_no_pass():
    _, findings = judged(scenario(devices=5), storage=Rotten)
    assert set(findings["L11-unplanted"].things) == {f"device-{n}" for n in range(5)}
    assert "5 × storage: other bytes than announced" in findings["L11-unplanted"].summary


class Timeless(Storage):
    """Looks at no clock: a URL is good for ever."""

    def serve(self, request, now, address=""):
        return super().serve(request, 0, address)


class Suspicious(Storage):
    """Refuses device-1, whatever it shows."""

    def _who(self, request, path, query, now, address):
        thing, why_not = super()._who(request, path, query, now, address)
        return ("", "expired") if thing == "device-1" else (thing, why_not)


def broken_off(**blocks):
    """Three devices whose downloads outlast their connections, and their URLs."""
    profile = {"bandwidth": "64kbit", "online": {"uniform": ["8s", "15s"]}, "offline": "5s"}
    return scenario(devices=3, profile="away", profiles={"away": profile}, rollout={"size": "256KiB"}, **blocks)


@pytest.mark.parametrize(("bug", "things"), [(Timeless, THREE), (Suspicious, {"device-1"})])
def test_s14_a_storage_that_does_not_heed_the_grant(bug, things):
    made = broken_off(target={"url_ttl": "10s"})
    assert fails("S14-url", made, storage=bug) == things
    passes(made)


def test_s14_a_storage_that_does_not_heed_the_end_of_a_credential():
    made = broken_off(target={"url_ttl": "10s", "access": "credential"})
    assert fails("S14-url", made, storage=Timeless) == THREE
    passes(made)


@pytest.mark.parametrize("access", ["presigned", "credential"])
def test_l6_a_storage_that_refuses_a_fresh_grant(access):
    made = broken_off(target={"url_ttl": "10s", "access": access})
    assert fails("L6-fresh-leave", made, storage=Suspicious) == {"device-1"}
    passes(made)


class Shifted(Storage):
    """Answers a range with one that begins elsewhere."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        headers = tuple((k, v.replace("-", "0-", 1) if k == "content-range" else v) for k, v in response.headers)
        return replace(response, headers=headers), served


class Curt(Storage):
    """Has no ranges to give."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if response.status != 206:
            return response, served
        total = dict(response.headers)["content-range"].rpartition("/")[2]
        headers = (("content-range", f"bytes */{total}"), ("content-length", "0"))
        return replace(response, status=416, headers=headers, body=b""), replace(served, status=416, size=0)


class Halving(Storage):
    """Sends device-1 half of an artifact as the whole."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if response.status != 200 or served.thing != "device-1":
            return response, served
        body = response.body[: len(response.body) // 2]
        headers = tuple((k, str(len(body)) if k == "content-length" else v) for k, v in response.headers)
        return replace(response, headers=headers, body=body), replace(served, size=len(body))


@pytest.mark.parametrize(("bug", "things"), [(Shifted, THREE), (Curt, THREE), (Halving, {"device-1"})])
def test_s15_a_storage_with_wrong_ranges(bug, things):
    made = broken_off()
    assert fails("S15-range", made, storage=bug) == things
    passes(made)
