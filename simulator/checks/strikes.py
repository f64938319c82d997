"""What faults did to devices and their roads, as the record tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.model.events import Kind
from simulator.trace.reader import Trace, View


def strikes(trace: Trace, meant: Callable[[dict[str, Any]], bool]) -> View:
    """The strikes whose detail is meant; each distinct one is asked about once."""
    did, words = trace.kind(Kind.FAULT).where("status", "did"), trace.words("detail")
    codes = [code for code in np.unique(did["detail"]).tolist() if code >= 0 and meant(json.loads(words[code]))]
    return did.only(np.isin(did["detail"], codes))
