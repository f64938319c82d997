"""The HTTP faces of storage and replica over a real socket, asked by the lean link, by the standard library and by bare bytes."""

import asyncio
import contextlib
import errno
import hashlib
import http.client
import json
import logging
import re
import urllib.error
import urllib.request
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from simulator.links.asgi import serve
from simulator.links.base import HttpOptions
from simulator.links.http import LeanHttp
from simulator.links.loop import LiveLoop
from simulator.model.errors import ScenarioError
from simulator.model.io import Request
from simulator.replica.api import replica_face
from simulator.replica.core import Row
from simulator.storage.api import storage_face
from simulator.storage.core import Storage
from simulator.storage.service import recording

TOKEN = "token"
BOUND = 1_000_000
CONTENT = bytes(range(256)) * 2000
ROW = Row("d 1", 3, {"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, "job", ())


@contextlib.asynccontextmanager
async def backend():
    """Both faces on ports of loopback; `.clock` is the storage's Unix time, `.replica` the other's URL."""
    made = SimpleNamespace(storage=Storage("", b"key"), clock=1000.0, served=[], kept=[], full=False)

    def record(kind, thing, **columns):
        made.served.append((thing, columns["status"], columns["size"]))

    async def read(thing):
        return ROW if thing == ROW.thing else None

    def keep(*artifact):
        if made.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.kept.append(artifact)

    face = storage_face(
        keep=keep,
        storage=made.storage,
        serve=recording(made.storage.serve, record, lambda: made.clock),
        now=lambda: made.clock,
        token=TOKEN,
        max_artifact_bytes=BOUND,
    )
    other = replica_face(read=read, health=lambda: {"replicas": 1}, token=TOKEN)
    async with serve(face, "127.0.0.1", 0) as made.port, serve(other, "127.0.0.1", 0) as port:
        made.storage.base, made.replica = f"http://127.0.0.1:{made.port}", f"http://127.0.0.1:{port}"
        yield made


def against_it(test):
    """Run a coroutine test against a backend on the live world's loop; nothing may be logged as an error."""

    def run(caplog):
        async def main():
            async with backend() as made:
                logging.getLogger("uvicorn").addHandler(caplog.handler)  # which it keeps from the root's
                await asyncio.wait_for(test(made), 20.0)

        with asyncio.Runner(loop_factory=LiveLoop) as runner:
            runner.run(main())
        logging.getLogger("uvicorn").removeHandler(caplog.handler)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    run.__name__ = test.__name__
    return run


async def ask(made, method, path, body=b"", *, token=TOKEN, headers=(), source=None):
    """(status, headers, body) of whose path it is, by the lean link; a body that says it is JSON is read."""
    base = made.replica if path.startswith("/things") else made.storage.base
    wanted = Request(method, base + path, (*headers, ("authorization", f"Bearer {token}")), body)
    answer = await LeanHttp(HttpOptions(source=source)).request(wanted)
    told = answer.header("content-type") == "application/json" and answer.body
    return answer.status, dict(answer.headers), json.loads(answer.body) if told else answer.body


async def download(made, url, *, method="GET", source=None, **headers):
    """The storage's answer to a device."""
    wanted = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return await LeanHttp(HttpOptions(source=source)).request(Request(method, url, wanted))


async def urllib_get(url, **headers):
    """(status, body) with nothing but the standard library."""

    def get():
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.read()

    try:
        return await asyncio.to_thread(get)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


async def put_in_pieces(made, size, token=TOKEN):
    """The status of an upload whose client sends it all before it listens."""

    def put():
        connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        connection.request("PUT", "/artifacts/app/2", iter([bytes(100_000)] * (size // 100_000)), headers)
        return connection.getresponse().status

    return await asyncio.to_thread(put)


async def signed(made, path="/artifacts/app/2", **query):
    """A pre-signed URL of an artifact that was uploaded."""
    await ask(made, "PUT", path, CONTENT)
    more = "".join(f"&{key}={value}" for key, value in query.items())
    status, _, said = await ask(made, "POST", f"{path}/url?thing=d{more}")
    assert status == 200
    return said["url"]


@against_it
async def test_an_artifact_is_kept_once_listed_and_never_changed(made):
    facts = {
        "url": f"{made.storage.base}/artifacts/app/2.0.0%2B1",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    for _ in range(2):
        status, _, said = await ask(made, "PUT", "/artifacts/app/2.0.0+1", CONTENT)
        assert (status, said) == (200, facts)
    status, _, said = await ask(made, "PUT", "/artifacts/app/2.0.0%2B1", b"changed")
    assert (status, said) == (409, {"error": "artifact app 2.0.0+1 is there already, with other bytes"})
    assert (await ask(made, "GET", "/artifacts"))[2] == [facts]


@against_it
async def test_an_artifact_that_cannot_be_kept_is_refused(made):
    await ask(made, "PUT", "/artifacts/app/1", b"one")
    made.full = True
    status, _, said = await ask(made, "PUT", "/artifacts/app/2", b"two")
    assert (status, said) == (507, {"error": "the artifact cannot be kept: No space left on device"})
    assert made.kept == [("app", "1", b"one")]


@against_it
async def test_an_upload_past_the_bound_is_told_so_whatever_the_client_and_leaves_nothing(made):
    status, _, said = await ask(made, "PUT", "/artifacts/app/2", bytes(5 * BOUND))
    assert (status, said) == (413, {"error": f"more than {BOUND} bytes"})
    assert await put_in_pieces(made, 20 * BOUND) == 413
    assert (await ask(made, "PUT", "/artifacts/app/2", bytes(BOUND)))[0] == 200
    assert [len(stored.content) for stored in made.storage.artifacts.values()] == [BOUND]


@against_it
async def test_an_upload_cut_in_the_middle_leaves_nothing(made):
    _, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"PUT /artifacts/app/2 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n")
    writer.write(f"Authorization: Bearer {TOKEN}\r\n\r\nhalf".encode())
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert (await ask(made, "GET", "/artifacts"))[2] == []


@against_it
async def test_a_name_that_no_url_can_hold_is_refused(made):
    for path in ("/artifacts/%2e%2e/2", "/artifacts/app/%2e"):
        assert (await ask(made, "PUT", path, b"x"))[0] == 422
    assert (await ask(made, "PUT", "/artifacts/app/%2e%2e%2fup", b"x"))[0] in (404, 405)
    assert made.storage.artifacts == {}


@against_it
async def test_a_signed_url_opens_for_its_time_with_the_lean_link_and_with_urllib(made):
    url = await signed(made, "/artifacts/my%20app/2.0.0+b~1!", ttl_s=60)
    answer = await download(made, url)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.header("content-length") == str(len(CONTENT))
    assert await urllib_get(url) == (200, CONTENT)
    assert await urllib_get(url, Range="bytes=1000-300000") == (206, CONTENT[1000:300001])
    assert [size for _, _, size in made.served] == [len(CONTENT), len(CONTENT), 299_001]
    assert {thing for thing, _, _ in made.served} == {"d"}
    made.clock += 61
    assert (await urllib_get(url))[0] == 403


@against_it
async def test_a_download_goes_on_from_where_it_was_unless_the_content_is_another(made):
    url = await signed(made)
    etag = (await download(made, url, method="HEAD")).header("etag")
    rest = await download(made, url, range="bytes=500000-", if_range=etag)
    assert (rest.status, rest.body) == (206, CONTENT[500000:])
    assert rest.header("content-range") == f"bytes 500000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert (await download(made, url, range="bytes=500000-", if_range='"other"')).status == 200
    beyond = await download(made, url, range=f"bytes={len(CONTENT)}-")
    assert (beyond.status, beyond.header("content-range")) == (416, f"bytes */{len(CONTENT)}")


@against_it
async def test_a_head_has_the_heads_of_the_whole_and_no_body(made):
    for url, status in ((await signed(made), 200), (f"{made.storage.base}/artifacts/app/2", 403)):
        answer = await download(made, url, method="HEAD")
        assert (answer.status, answer.body) == (status, b"")
    assert [size for _, _, size in made.served] == [0, 0]


@against_it
async def test_a_url_for_an_address_opens_from_that_address_alone(made):
    url = await signed(made, address="127.0.0.2")
    assert (await download(made, url, source="127.0.0.2")).status == 200
    for source in ("127.0.0.3", None):
        assert (await download(made, url, source=source)).status == 403
    assert (await download(made, url.replace("127.0.0.2", "127.0.0.3"), source="127.0.0.3")).status == 403


@against_it
async def test_what_one_device_may_open_opens_nothing_for_another(made):
    url = await signed(made)
    await ask(made, "PUT", "/artifacts/app/3", b"for the other")
    credential = made.storage.credential(made.storage.at("app", "2"), "d", 2000)
    plain = f"{made.storage.base}/artifacts/app"
    assert (await download(made, f"{plain}/2", authorization=credential)).status == 200
    for foreign, headers in (
        (url.replace("/app/2", "/app/3"), {}),
        (url.replace("thing=d", "thing=e"), {}),
        (f"{plain}/3", {"authorization": credential}),
        (f"{plain}/2", {"authorization": credential.replace("d.", "e.")}),
        (f"{plain}/2", {"authorization": "Bearer \xe9.1.\xe9"}),
        (f"{plain}/2?thing=d&expires=2000&signature=%C3%A9", {}),
        (f"{plain}/2", {}),
        (f"{plain}/9?{urlsplit(url).query}", {}),
    ):
        assert (await download(made, foreign, **headers)).status == 403


@against_it
async def test_an_artifact_that_is_not_there_cannot_be_signed(made):
    assert (await ask(made, "POST", "/artifacts/app/9/url?thing=d"))[0] == 404
    await ask(made, "PUT", "/artifacts/app/2", b"")
    for query in ("", "?thing=", "?thing=d&ttl_s=0", "?thing=d&ttl_s=x"):
        status, _, said = await ask(made, "POST", f"/artifacts/app/2/url{query}")
        assert status == 422
        assert ("thing" if "ttl_s" not in query else "ttl_s") in said["error"]


@against_it
async def test_a_things_replica_with_what_differs(made):
    status, _, said = await ask(made, "GET", "/things/d%201")
    assert status == 200
    assert said == {
        "thing": "d 1",
        "version": 3,
        "job": "job",
        "desired": ROW.desired,
        "reported": ROW.reported,
        "delta": {"a": {"c": 2}},
    }
    assert (await ask(made, "GET", "/things/nobody"))[0] == 404


@against_it
async def test_all_but_health_and_the_description_wants_the_token(made):
    for method, path, body in (
        ("GET", "/artifacts", b""),
        ("PUT", "/artifacts/app/2", CONTENT),
        ("POST", "/artifacts/app/2/url?thing=d", b""),
        ("GET", "/things/d%201", b""),
        ("GET", "/nowhere", b""),
    ):
        for wrong in ("", "wrong", "t\xf6ken", TOKEN + "x"):
            status, headers, said = await ask(made, method, path, body, token=wrong)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert "Authorization: Bearer TOKEN" in said["error"]
    assert await put_in_pieces(made, 20 * BOUND, "wrong") == 401
    assert made.storage.artifacts == {}
    for base, holds in ((made.storage.base, {"artifacts": 0}), (made.replica, {"replicas": 1})):
        health = (await urllib_get(f"{base}/health"))[1]
        assert json.loads(health) == {"status": "ok", "version": json.loads(health)["version"], **holds}
    assert (await ask(made, "GET", "/nowhere"))[0] == 404


@against_it
async def test_a_host_header_that_spells_an_open_path_opens_nothing(made):
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"GET /artifacts HTTP/1.1\r\nHost: h/health?\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 401")
    writer.close()


STORED = {
    ("get", "/health"),
    ("get", "/artifacts"),
    ("put", "/artifacts/{name}/{version}"),
    ("get", "/artifacts/{name}/{version}"),
    ("head", "/artifacts/{name}/{version}"),
    ("post", "/artifacts/{name}/{version}/url"),
}


@against_it
async def test_the_descriptions_name_each_operation_and_load_nothing_from_elsewhere(made):
    for base, title, expected, to_all in (
        (made.storage.base, "fleetsim storage", STORED, {"/health", "/artifacts/{name}/{version}"}),
        (made.replica, "fleetsim replica", {("get", "/health"), ("get", "/things/{thing}")}, {"/health"}),
    ):
        _, text = await urllib_get(f"{base}/openapi.json")
        said = json.loads(text)
        assert said["info"]["title"] == title
        assert {(method, path) for path, methods in said["paths"].items() for method in methods} == expected
        assert said["components"]["securitySchemes"] == {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "the token that fleetsim was given, or printed",
            }
        }
        assert {
            path for path, methods in said["paths"].items() if methods.get("get", {}).get("security") == []
        } == to_all
        assert not re.search(rb"https?://", text)
    for path in ("/docs", "/redoc"):
        assert (await ask(made, "GET", path))[0] == 404


def test_a_port_in_use_is_said():
    async def main():
        async with backend() as made:
            with pytest.raises(ScenarioError, match=f"127.0.0.1:{made.port}: Address already in use"):
                async with serve(None, "127.0.0.1", made.port):
                    pass

    asyncio.run(main())
