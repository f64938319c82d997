"""The Fleet tab of Locust's web page: how the run goes, its verdict and its report.

Locust's page is compiled, and knows of tabs with tables alone. Ours is a page of its own, which a few lines of script
in Locust's show below the tab's title.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Response, request, send_file
from locust.env import Environment

from simulator.worlds.locust.lead import Lead

_HERE = Path(__file__).parent
_SCRIPT = '<script src="./fleet/tab.js"></script></body>'


def add(environment: Environment, lead: Lead) -> None:
    """Show what the lead knows, if there is a web page."""
    web_ui = environment.web_ui
    if web_ui is None:
        return
    assert web_ui.app is not None
    options: Any = environment.parsed_options
    web_ui.template_args["extended_tabs"] = [{"title": "Fleet", "key": "fleet"}]
    web_ui.app.jinja_env.policies["json.dumps_kwargs"] = {
        "sort_keys": False
    }  # the start form's fields come in the order of the flags
    fleet = Blueprint("fleetsim", __name__, url_prefix=f"{options.web_base_path}/fleet")
    for path, name, view in (
        ("", "page", _page),
        ("/tab.js", "script", _script),
        ("/state", "state", lambda: _state(lead)),
        ("/report", "report", lambda: _report(lead)),
    ):
        fleet.add_url_rule(path, name, web_ui.auth_required_if_enabled(view))
    web_ui.app.register_blueprint(fleet)
    web_ui.app.after_request(_with_script)


def _with_script(response: Response) -> Response:
    if request.endpoint == "locust.index" and response.mimetype == "text/html":
        response.set_data(response.get_data(as_text=True).replace("</body>", _SCRIPT))
    return response


def _page() -> Response:
    return send_file(_HERE / "fleet.html")


def _script() -> Response:
    return send_file(_HERE / "tab.js")


def _state(lead: Lead) -> Response:
    """What is known, and the points of the curve after the second `after` of the run `run`."""
    same = request.args.get("run", type=int) == lead.run
    after = request.args.get("after", -1.0, type=float) if same else -1.0
    known = {**lead.facts, "run": lead.run, "running": lead.running, "points": lead.history.since(after)}
    return Response(orjson.dumps(known), mimetype="application/json", headers={"cache-control": "no-store"})


def _report(lead: Lead) -> Response:
    """The report of the run that has ended last."""
    if "verdict" not in lead.facts:
        return Response("There is no report yet.", 404, mimetype="text/plain")
    return send_file(Path(lead.facts["path"]).resolve() / "report.html", max_age=0)
