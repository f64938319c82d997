"""A backend that carries rollouts out itself, as a stand-in: a REST service for jobs in virtual time, the dialect of its API,
and devices that ask it for work.

    POST /jobs {name, things, artifact}      GET /jobs/NAME      GET /jobs/NAME/executions?from=N      POST /jobs/NAME/VERB
    GET /things/THING/job                    POST /things/THING/jobs/ID {status, reason}
"""

import asyncio
import hashlib

import orjson

from simulator.dialects.jobs import ExecutionPage, JobExecution, JobStatus
from simulator.dialects.registry import SERVICE
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.io import Request, Response
from simulator.model.update import Phase, State

BASE = SERVICE
PAGE = 2
WORDS = {"waiting": State.QUEUED, "open": State.IN_PROGRESS, "done": State.SUCCEEDED, "broken": State.FAILED,
         "revoked": State.CANCELED, "late": State.TIMED_OUT}  # fmt: skip


class JobService:
    """The service. `at_once` is how many executions it keeps open, `retries` how often it lets a device try again;
    `failing` answers are 503 before it works, `deaf` requests get none, and with `forgetful` it does what was asked and the answer is
    lost."""

    def __init__(self, at_once=100, retries=0, things=None, sign=lambda thing, url: url):
        self.sign = sign  # (thing, stable URL) -> a URL that opens for it
        self.at_once, self.retries, self.things = at_once, retries, things
        self.jobs, self.failing, self.deaf, self.forgetful, self.asked = {}, 0, 0, 0, []

    def serve(self, request):
        method, path, body = request.method, request.url.removeprefix(BASE), request.body
        self.asked.append(f"{method} {path}")
        if self.deaf:
            self.deaf -= 1
            raise LinkError("connection refused")
        if self.failing:
            self.failing -= 1
            return Response(503, (), b"busy")
        status, answer = self._route(method, path, orjson.loads(body) if body else None)
        if self.forgetful:
            self.forgetful -= 1
            raise LinkError("timed out")
        return Response(status, (), orjson.dumps(answer))

    def _route(self, method, path, body):
        path, _, query = path.partition("?")
        parts = path.strip("/").split("/")
        if method == "POST" and parts == ["jobs"]:
            return self._create(body)
        if parts[0] == "jobs" and parts[1] not in self.jobs:
            return 404, {"error": f"no job {parts[1]}"}
        if parts[0] == "jobs" and method == "POST":
            return self.operate(self.jobs[parts[1]], parts[2])
        if parts[0] == "jobs" and len(parts) == 3:
            job, first = self.jobs[parts[1]], int(query.partition("=")[2])
            listed = list(job["executions"].values())
            more = str(first + PAGE) if first + PAGE < len(listed) else ""
            return 200, {"executions": listed[first : first + PAGE], "next": more}
        if parts[0] == "jobs":
            return 200, self._described(self.jobs[parts[1]])
        if method == "GET":
            return 200, self._work(parts[1])
        return self._reported(parts[1], parts[3], body)

    def _create(self, body):
        strangers = sorted(set(body["things"]) - set(self.things)) if self.things is not None else []
        if strangers:
            return 400, {"error": f"no such thing: {strangers[0]}"}
        known = self.jobs.get(body["name"])
        if known is not None and known["order"] != body:
            return 409, {"error": "there is another job of this name"}
        if known is None:
            executions = {
                t: {"thing": t, "id": f"{body['name']}/{t}/0", "state": "waiting", "reason": ""} for t in body["things"]
            }
            self.jobs[body["name"]] = {"order": body, "executions": executions, "status": "running", "reason": ""}
            self._go_on()
        return 201, {"job": body["name"]}

    def operate(self, job, verb, reason="by an operator"):
        if verb == "resume":
            return 409, {"error": "it is not paused"}
        job["status"], job["reason"] = "aborted", reason
        for execution in job["executions"].values():
            if execution["state"] == "waiting":
                execution["state"] = "revoked"
        return 200, {}

    def _go_on(self):
        for job in self.jobs.values():
            executions = job["executions"].values()
            room = self.at_once - sum(e["state"] == "open" for e in executions)
            for execution in [e for e in executions if e["state"] == "waiting"][: max(0, room)]:
                execution["state"] = "open"

    def _described(self, job):
        states = [WORDS[e["state"]] for e in job["executions"].values()]
        over = all(state.ended for state in states)
        return {
            "status": "ended" if over else "running" if job["status"] == "aborted" else job["status"],
            "aborted": job["status"] == "aborted",
            "reason": job["reason"],
            "counts": {state.value: states.count(state) for state in set(states)},
        }

    def _work(self, thing):
        for job in self.jobs.values():
            execution = job["executions"].get(thing)
            if execution is not None and execution["state"] == "open":
                artifact = job["order"]["artifact"]
                return {"id": execution["id"], **artifact, "url": self.sign(thing, artifact["url"])}
        return {}

    def _reported(self, thing, job_id, body):
        job_id = job_id.replace("~", "/")
        for job in self.jobs.values():
            execution = job["executions"].get(thing)
            if execution is not None and execution["id"] == job_id and execution["state"] == "open":
                nth = int(job_id.rpartition("/")[2])
                if body["status"] == "SUCCESS":
                    execution["state"] = "done"
                elif nth < self.retries:
                    execution |= {"id": f"{job_id.rpartition('/')[0]}/{nth + 1}", "state": "open"}
                else:
                    execution |= {"state": "broken", "reason": body["reason"]}
                self._go_on()
                return 200, {}
        return 409, {"error": "not open"}


class JobsApi:
    """The dialect of that API."""

    def refusal(self, response):
        if response.status < 300:
            return ""
        return f"{response.status} {orjson.loads(response.body)['error']}"

    def create(self, order):
        artifact = {"version": order.artifact.version, "url": order.artifact.url, "sha256": order.artifact.sha256}
        body = {"name": order.name, "things": list(order.things), "artifact": artifact}
        return Request("POST", f"{BASE}/jobs", (), orjson.dumps(body))

    def created(self, order, response):
        return orjson.loads(response.body)["job"]

    def status(self, job):
        return Request("GET", f"{BASE}/jobs/{job}")

    def read_status(self, response):
        answer = orjson.loads(response.body)
        counts = {State(state): count for state, count in answer["counts"].items()}
        return JobStatus(answer["status"], answer["aborted"], answer["reason"], counts)

    def executions(self, job, page):
        return Request("GET", f"{BASE}/jobs/{job}/executions?from={page or 0}")

    def read_executions(self, response):
        try:
            answer = orjson.loads(response.body)
        except ValueError:
            raise PeerError("no JSON") from None
        listed = [JobExecution(e["thing"], e["id"], WORDS[e["state"]], e["reason"]) for e in answer["executions"]]
        return ExecutionPage(listed, answer["next"])

    def operate(self, job, verb):
        return None if verb == "pause" else Request("POST", f"{BASE}/jobs/{job}/{verb}")


class Device:
    """A device that asks the service every 3 s, downloads what it is told, and reports; `fails(job)` is why it cannot."""

    def __init__(self, thing, service, files, record, fails=lambda job: ""):
        self.thing, self.record, self.fails = thing, record, fails
        self.jobs, self.files = MemoryHttp(service.serve), MemoryHttp(files)
        self.running, self.phase = {"version": "1.0.0", "digest": "0" * 64}, Phase.IDLE

    async def run(self):
        self.note(Kind.BOOT, status="cold", span_us=0, **self.running)
        try:
            while True:
                work = await self.asked("GET", "job")
                if work:
                    await self.update(work)
                await asyncio.sleep(3.0)
        finally:
            self.note(Kind.RETIRED)

    def note(self, kind, **columns):
        self.record(kind, self.thing, **columns)

    def move(self, job, *phases):
        for phase in phases:
            self.note(Kind.PHASE, job=job, phase=self.phase, status=phase, span_us=0)
            self.phase = phase

    async def asked(self, method, path, body=b""):
        """What the service answers, however often it must be asked."""
        while True:
            try:
                response = await self.jobs.request(Request(method, f"{BASE}/things/{self.thing}/{path}", (), body))
                if response.status < 500:
                    return orjson.loads(response.body)
            except LinkError:
                pass
            await asyncio.sleep(0.2)

    async def update(self, work):
        job, facts = work["id"], {"version": work["version"], "digest": work["sha256"]}
        self.note(Kind.DELTA, job=job, status="start", detail="get", **facts)
        self.move(job, Phase.DOWNLOADING)
        content = (await self.files.request(Request("GET", work["url"]))).body
        self.note(Kind.DOWNLOAD, job=job, status="200", size=len(content), span_us=0, detail='{"offset":0}')
        why = self.fails(job)
        if not why:
            assert hashlib.sha256(content).hexdigest() == work["sha256"]
            self.move(job, Phase.VERIFYING, Phase.INSTALLING)
            self.note(Kind.COMMIT, job=job, size=len(content), detail=work["sha256"], **facts)
            self.move(job, Phase.REBOOTING)
            self.running = facts
            self.note(Kind.BOOT, status="reboot", span_us=0, **facts)
            self.move(job, Phase.CONFIRMING)
            self.note(Kind.CONFIRM, job=job, **facts)
        self.move(job, Phase.REPORTING)
        status = "FAILURE" if why else "SUCCESS"
        self.note(Kind.REPORT, job=job, status=status, size=1, token=job, detail=why or None, **self.running)
        await self.asked("POST", f"jobs/{job.replace('/', '~')}", orjson.dumps({"status": status, "reason": why}))
        self.note(Kind.ANSWER, job=job, status="accepted", span_us=0, token=job)
        self.move(job, Phase.IDLE)
