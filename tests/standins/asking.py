"""A dialect whose service is its own: devices ask the job service (`jobs.py`) over HTTP, and it carries rollouts out."""

import orjson

from simulator.dialects.base import Answered, InSync, UpdateRequested
from simulator.dialects.registry import Dialect, OwnService
from simulator.dialects.topics import Topics
from simulator.model.capabilities import Capabilities
from simulator.model.errors import NotSimulated
from simulator.model.io import NOTHING, Request, Step
from simulator.model.update import Artifact, Download, Execution
from tests.standins.jobs import BASE, JobsApi, JobService

EVERY_S = 5.0


class AskingDevice:
    """Asks for work every few seconds, and reports ends alone."""

    roads = frozenset({"http"})
    answers = True

    def __init__(self, thing, /, **_):
        self.thing, self.wake_at = thing, None

    def call(self, method, path, body=None):
        payload = b"" if body is None else orjson.dumps(body)
        return Request(method, f"{BASE}/things/{self.thing}/{path}", (), payload)

    def open(self, initial, now):
        return self.ask_current(now)

    def ask_current(self, now):
        self.wake_at = now + EVERY_S
        return Step((self.call("GET", "job"),))

    def wake(self, now):
        return self.ask_current(now)

    def ask_credential(self, job, now):
        raise NotSimulated("credentials")

    def ask_chunk(self, job, offset, length, now):
        raise NotSimulated("chunks")

    def report(self, progress, now):
        p = progress
        if p.status not in ("SUCCESS", "FAILURE"):
            return NOTHING
        body = {"status": p.status, "reason": p.reason, "token": p.token, "job": p.job}
        return Step((self.call("POST", f"jobs/{p.job.replace('/', '~')}", body),))

    def receive(self, inbound, now):
        asked, body = inbound.request, orjson.loads(inbound.body or b"{}")
        if asked.method == "POST":
            report = orjson.loads(asked.body)
            if inbound.status >= 500:
                return NOTHING
            code = None if inbound.status < 300 else inbound.status
            return Step((), (Answered(report["token"], report["job"], None, code, body.get("error", "")),))
        if inbound.status != 200:
            return NOTHING
        if not body:
            return Step((), (InSync(None),))
        wanted = Execution(body["id"], self.thing, Artifact(body["version"], body["url"], body["size"], body["sha256"]))
        return Step((), (UpdateRequested(wanted, Download(body["download"]), None, "get"),))


class Signing(JobService):
    """Names a URL that opens for the thing, beside the stable one."""

    def _work(self, thing):
        work = super()._work(thing)
        return work and {
            **work,
            "url": self._stable(work["id"]),
            "download": work["url"]["url"],
            "size": work["url"]["size"],
        }

    def _stable(self, execution):
        return self.jobs[execution.partition("/")[0]]["order"]["artifact"]["url"]


made = []  # the services of the runs so far


def service(*, download, now):
    made.append(Signing(at_once=3, sign=lambda thing, url: download(url, thing, "", now())))
    return made[-1].serve


ASKING = Dialect(
    Capabilities(versions=False, deltas=False, replica=False, sessions=False, credentials=False, addresses=False),
    Topics,
    AskingDevice,
    own=OwnService(JobsApi, service),
)
