"""One suite for the rollouts' port, on the local engine and over real HTTP; then what only HTTP has."""

import asyncio
import contextlib
import inspect

import orjson
import pytest

from simulator.application.api import app
from simulator.application.local import LocalRollouts
from simulator.application.port import ArtifactFacts, NoSuch, RolloutRequest, Rollouts, TargetFacts
from simulator.application.remote import RemoteRollouts
from simulator.application.rollout import WrongState
from simulator.links.asgi import serve
from simulator.links.base import HttpOptions
from simulator.links.http import LeanHttp
from simulator.model.errors import PeerError, ScenarioError
from simulator.model.io import Request, Response
from tests.application.scene import Scene

TOKEN = "secret"


@contextlib.asynccontextmanager
async def serving(rollouts):
    """(a link, the base URL) of the port's HTTP face."""
    http = LeanHttp(HttpOptions(pooled=True))
    async with serve(app(rollouts, TOKEN), "127.0.0.1", 0) as port:
        try:
            yield http, f"http://127.0.0.1:{port}"
        finally:
            await http.close()


def on_both(test):
    """A test of the port: a Scene, and the port on it, local and remote."""

    @pytest.mark.parametrize("way", ["local", "remote"])
    def played(way):
        async def main():
            scene = Scene(asyncio.get_running_loop())
            await scene.start()
            local = LocalRollouts(scene.application, prefix="p.")
            try:
                if way == "local":
                    await test(scene, local)
                else:
                    async with serving(local) as (http, base):
                        await test(scene, RemoteRollouts(http, base, TOKEN))
            finally:
                for task in scene.tasks:
                    task.cancel()
                await asyncio.gather(*scene.tasks, return_exceptions=True)

        asyncio.run(main())

    played.__name__, played.__module__ = test.__name__, test.__module__
    return played


def over_http(test):
    """A test of the HTTP face alone: `ask(method, path, body, token=…)` gives (status, JSON)."""

    def played():
        async def main():
            local = LocalRollouts(Scene(asyncio.get_running_loop()).application)
            async with serving(local) as (http, base):

                async def ask(method, path, body=b"", token=TOKEN):
                    headers = [("content-type", "application/json")]
                    headers += [("authorization", f"Bearer {token}")] if token else []
                    content = body if isinstance(body, bytes) else orjson.dumps(body)
                    response = await http.request(Request(method, base + path, tuple(headers), content))
                    return response.status, orjson.loads(response.body)

                await test(ask)

        asyncio.run(main())

    played.__name__, played.__module__ = test.__name__, test.__module__
    return played


def wanted(*targets, name="r", version="2", **spec):
    """A request for a rollout; a target is a thing, or a thing and its cohort."""
    pairs = [t if isinstance(t, tuple) else (t, "all") for t in targets]
    return RolloutRequest(
        spec={"name": name, "version": version, **spec},
        artifact=ArtifactFacts(version=version, url=f"u{version}", size=7, sha256="ab"),
        targets=[TargetFacts(thing=thing, cohort=cohort) for thing, cohort in pairs],
    )


async def until(condition):
    """Wait until it holds, but not for ever."""
    for _ in range(2500):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never held")


async def offered(scene, count):
    await until(lambda: len(scene.offers) >= count)
    await asyncio.sleep(0.01)


# ---- the port


@on_both
async def test_a_rollout_is_created_and_begins(scene, rollouts):
    state = await rollouts.create(wanted(("a", "home"), ("b", "field"), ("c", "home")))
    assert (state.name, state.version, state.status, state.size, state.wave) == ("r", "2", "waiting", 3, -1)
    assert (state.states, sum(state.states.values())) == ({"QUEUED": 3}, state.size)
    await offered(scene, 3)
    state = await rollouts.state("r")
    assert (state.status, state.wave, state.states) == ("running", 0, {"IN_PROGRESS": 3})
    assert state.cohorts == {"home": {"IN_PROGRESS": 2}, "field": {"IN_PROGRESS": 1}}
    desired = scene.offers[0][2]["state"]["desired"]["software"]
    assert desired == {"version": "2", "softwareURL": "u2"}
    assert scene.job("a").startswith("p.r.a.")


@on_both
async def test_a_rollout_ends_and_says_how(scene, rollouts):
    await rollouts.create(wanted("a", "b"))
    await offered(scene, 2)
    await scene.report("a", scene.job("a"), "SUCCESS")
    await scene.report("b", scene.job("b"), "FAILURE")
    await until(lambda: scene.application.rollouts["r"].status == "ended")
    state = await rollouts.state("r")
    assert (state.status, state.reason, state.states) == ("ended", "all targets ended", {"SUCCEEDED": 1, "FAILED": 1})


@on_both
async def test_names_are_by_age(scene, rollouts):
    assert await rollouts.names() == []
    for name in ("z", "a", "m"):
        await rollouts.create(wanted(f"thing-{name}", name=name))
    assert await rollouts.names() == ["z", "a", "m"]


@on_both
async def test_pause_holds_and_resume_goes_on_at_once(scene, rollouts):
    await rollouts.create(wanted("a", "b", maximumConcurrent=1))
    await offered(scene, 1)
    paused = await rollouts.pause("r")
    assert (paused.status, paused.reason) == ("paused", "by an operator")
    await scene.report("a", scene.job("a"), "SUCCESS")
    await asyncio.sleep(0.05)
    assert len(scene.offers) == 1
    assert (await rollouts.resume("r")).status == "running"
    await offered(scene, 2)


@on_both
async def test_abort_cancels_what_waits_and_leaves_the_rest(scene, rollouts):
    await rollouts.create(wanted("a", "b", "c", maximumConcurrent=1))
    await offered(scene, 1)
    state = await rollouts.abort("r")
    assert (state.status, state.states) == ("aborting", {"IN_PROGRESS": 1, "CANCELED": 2})
    await scene.report("a", scene.job("a"), "SUCCESS")
    await until(lambda: scene.application.rollouts["r"].status == "ended")
    state = await rollouts.state("r")
    assert (state.reason, state.states) == ("aborted: by an operator", {"SUCCEEDED": 1, "CANCELED": 2})


@on_both
async def test_what_a_status_does_not_allow_is_wrong_state(scene, rollouts):
    await rollouts.create(wanted("a"))
    await offered(scene, 1)
    with pytest.raises(WrongState, match="rollout 'r' is running: it cannot be resumed"):
        await rollouts.resume("r")
    await rollouts.pause("r")
    with pytest.raises(WrongState, match="rollout 'r' is paused: it cannot be paused"):
        await rollouts.pause("r")
    await rollouts.abort("r")
    for verb, word in ((rollouts.pause, "paused"), (rollouts.resume, "resumed"), (rollouts.abort, "aborted")):
        with pytest.raises(WrongState, match=f"is aborting: it cannot be {word}"):
            await verb("r")


@on_both
async def test_the_fleet_counts_each_thing_once_by_its_latest_rollout(scene, rollouts):
    empty = await rollouts.fleet()
    assert (empty.things, empty.states, empty.cohorts, empty.versions) == (0, {}, {}, {})
    await rollouts.create(wanted(("a", "home"), ("b", "home"), ("c", "field")))
    await offered(scene, 3)
    await scene.report("a", scene.job("a"), "SUCCESS")
    await scene.report("c", scene.job("c"), "FAILURE", "1")
    await scene.report("z", None, version="1")  # it has reported, and no rollout is for it
    await rollouts.create(wanted(("c", "edge"), name="again", version="3"))
    await offered(scene, 4)
    fleet = await rollouts.fleet()
    assert fleet.things == 4
    assert fleet.states == {"IN_PROGRESS": 2, "SUCCEEDED": 1}
    assert fleet.cohorts == {"home": {"SUCCEEDED": 1, "IN_PROGRESS": 1}, "edge": {"IN_PROGRESS": 1}}
    assert fleet.versions == {"2": 1, "1": 2}
    assert sum(sum(c.values()) for c in fleet.cohorts.values()) == sum(fleet.states.values())


@on_both
async def test_one_thing(scene, rollouts):
    await rollouts.create(wanted("a %é", "b", retryConfig={"failed": 1}, waves=[{"share": "50%"}, {"share": "50%"}]))
    await offered(scene, 1)
    thing = await rollouts.thing("a %é")
    assert (thing.thing, thing.version, thing.rollout, thing.job) == ("a %é", None, "r", scene.job("a %é"))
    assert (thing.state, thing.attempt, thing.wave) == ("IN_PROGRESS", 0, 0)
    await scene.report("a %é", scene.job("a %é"), "FAILURE", "1")
    await offered(scene, 2)
    thing = await rollouts.thing("a %é")
    assert (thing.version, thing.state, thing.attempt) == ("1", "IN_PROGRESS", 1)
    assert ((await rollouts.thing("b")).state, (await rollouts.thing("b")).wave) == ("QUEUED", 1)
    await scene.report("z", None, version="1")
    alone = await rollouts.thing("z")
    assert (alone.version, alone.rollout, alone.state) == ("1", None, None)


@on_both
async def test_unknown_names_are_no_such(scene, rollouts):
    for ask in (rollouts.state, rollouts.pause, rollouts.resume, rollouts.abort):
        with pytest.raises(NoSuch, match="no rollout 'nobody'"):
            await ask("nobody")
    with pytest.raises(NoSuch, match="nothing is known of 'nobody'"):
        await rollouts.thing("nobody")


@on_both
async def test_a_rollout_that_makes_no_sense_is_refused_and_not_kept(scene, rollouts):
    with pytest.raises(ScenarioError, match="rollout 'r': a thing stands among its targets twice"):
        await rollouts.create(wanted("a", "a"))
    assert await rollouts.names() == []
    await rollouts.create(wanted("a"))
    with pytest.raises(ScenarioError, match="there is a rollout called 'r' already"):
        await rollouts.create(wanted("b"))
    assert (await rollouts.state("r")).size == 1


# ---- what only HTTP has


@over_http
async def test_all_but_health_and_the_description_want_the_token(ask):
    for token in (None, "wrong", ""):
        for method, path in (
            ("GET", "/rollouts"), ("POST", "/rollouts"), ("GET", "/rollouts/r"), ("POST", "/rollouts/r/abort"),
            ("GET", "/fleet"), ("GET", "/things/a"), ("GET", "/nothing"),
        ):  # fmt: skip
            status, said = await ask(method, path, token=token)
            assert (status, "bearer token is needed" in said["error"]) == (401, True), (method, path)
        assert (await ask("GET", "/health", token=token))[1]["status"] == "ok"
        assert (await ask("GET", "/openapi.json", token=token))[0] == 200


GOOD = {"spec": {"name": "r"}, "artifact": {"version": "2", "url": "u"}, "targets": [{"thing": "a"}]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b"", "Field required"),
        ([], "should be a valid dictionary"),
        ({}, "spec: Field required; artifact: Field required; targets: Field required"),
        ({**GOOD, "spec": {"maximumPerMinut": 5}}, "spec.maximumPerMinut: Extra inputs are not permitted"),
        ({**GOOD, "spec": {"waves": [{"share": "50%"}]}}, "waves: their shares must add up to 100%"),
        ({**GOOD, "spec": {"size": "16K"}}, "spec.size: Value error, '16K' is not a size; write 16KiB or 32MB"),
        ({**GOOD, "artifact": {"version": "2"}}, "artifact.url: Field required"),
        ({**GOOD, "targets": [{"thing": "a"}, {"thing": "+"}]}, "targets.1.thing: String should match"),
        ({**GOOD, "targets": [{"thing": "a/b"}]}, "targets.0.thing: String should match"),
        ({**GOOD, "targets": [{"thing": ""}]}, "targets.0.thing: String should match"),
        ({**GOOD, "targets": "all"}, "targets: Input should be a valid list"),
    ],
)
def test_a_bad_body_is_422_with_words(body, says):
    @over_http
    async def played(ask):
        status, said = await ask("POST", "/rollouts", body)
        assert status == 422
        assert says in said["error"]

    played()


@over_http
async def test_statuses_of_what_goes_well_and_what_does_not(ask):
    assert [(await ask("POST", "/rollouts", GOOD))[0] for _ in range(2)] == [201, 422]
    assert (await ask("GET", "/rollouts"))[:2] == (200, ["r"])
    assert (await ask("GET", "/rollouts/x"))[0] == 404
    assert (await ask("POST", "/rollouts/r/resume"))[0] == 409
    assert (await ask("POST", "/rollouts/r/explode"))[0] == 422
    assert (await ask("GET", "/nothing"))[0] == 404
    status, said = await ask("DELETE", "/rollouts/r")
    assert (status, said) == (405, {"error": "Method Not Allowed"})


def test_a_wrong_token_is_the_clients_peer_error():
    async def main():
        local = LocalRollouts(Scene(asyncio.get_running_loop()).application)
        async with serving(local) as (http, base):
            with pytest.raises(PeerError) as refused:
                await RemoteRollouts(http, base, "wrong").names()
            assert refused.value.code == 401

    asyncio.run(main())


class Scripted:
    """A link whose answer is always this."""

    def __init__(self, status, body):
        self._response = Response(status, (), body)

    async def request(self, request, **limits):
        return self._response


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"hello"), (200, b"{}"), (200, b"[7]"), (500, b"{}"), (502, b"<html>"), (503, b"[]")]
)
def test_an_answer_that_is_not_the_ports_is_a_peer_error(status, body):
    async def main():
        remote = RemoteRollouts(Scripted(status, body), "http://x", "t")
        for ask in (remote.names(), remote.state("r"), remote.fleet(), remote.thing("a"), remote.create(wanted("a"))):
            with pytest.raises(PeerError):
                await ask

    asyncio.run(main())


def schema_of(operation, status):
    return operation["responses"][status]["content"]["application/json"]["schema"]


@over_http
async def test_the_description_names_every_operation_with_its_schema(ask):
    _, described = await ask("GET", "/openapi.json")
    paths, schemas = described["paths"], described["components"]["schemas"]
    operations = {
        "create": paths["/rollouts"]["post"],
        "names": paths["/rollouts"]["get"],
        "state": paths["/rollouts/{name}"]["get"],
        "pause": paths["/rollouts/{name}/{verb}"]["post"],
        "resume": paths["/rollouts/{name}/{verb}"]["post"],
        "abort": paths["/rollouts/{name}/{verb}"]["post"],
        "fleet": paths["/fleet"]["get"],
        "thing": paths["/things/{thing}"]["get"],
    }
    assert set(operations) == {name for name, _ in inspect.getmembers(Rollouts, inspect.isfunction) if name[0] != "_"}
    told = {"fleet": "FleetState", "thing": "ThingState"}
    for name, operation in operations.items():
        assert operation["description"]
        status = "201" if name == "create" else "200"
        expected = {"type": "string"} if name == "names" else f"#/components/schemas/{told.get(name, 'RolloutState')}"
        schema = schema_of(operation, status)
        assert (schema["items"] if name == "names" else schema["$ref"]) == expected
        for refusal in {"401", "422"} | set(operation["responses"]) - {status}:
            assert schema_of(operation, refusal) == {"$ref": "#/components/schemas/Refusal"}, (name, refusal)
    assert "404" in operations["state"]["responses"]
    assert {"404", "409"} <= set(operations["pause"]["responses"])
    verb = next(p for p in operations["pause"]["parameters"] if p["name"] == "verb")
    assert verb["schema"]["enum"] == ["pause", "resume", "abort"]
    body = operations["create"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/RolloutRequest"}
    assert schemas["RolloutSpec"]["properties"]["maximumPerMinute"]
    assert set(schemas["RolloutRequest"]["required"]) == {"spec", "artifact", "targets"}
