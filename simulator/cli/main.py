"""The command line: `fleetsim VERB`. Exit codes: 0 PASS, 1 a promise was broken, 2 otherwise not PASS, 3 nothing was
started, 4 a part of ours died."""

# A run's own code comes from its judgement (model/verdict.py), that of a campaign or a replay from its result. Here errors
# become codes: 3, 4, and 2 where nobody reads the output any more. A new verb is a function in its family's module, and an
# entry in the loop below; its flags are rows of worlds/flags.py, if other verbs share them.

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated

import typer

from simulator import __version__
from simulator.cli import campaigns, looking, records, reproducing, running, serving
from simulator.model.errors import FleetsimError, PartDied
from simulator.worlds.nopandas import hide_pandas

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"fleetsim {__version__}")
        raise typer.Exit


@app.callback(help=__doc__)
def fleetsim(
    version: Annotated[bool, typer.Option("--version", help="print it", callback=_version, is_eager=True)] = False,
) -> None:
    """What holds for every verb."""


for verb in (
    running.run,
    campaigns.explore,
    campaigns.sweep,
    serving.serve,
    serving.mosquitto,
    records.check,
    reproducing.replay,
    reproducing.shrink,
    records.report,
    looking.trace,
    looking.scenarios,
    looking.schema,
):
    app.command()(verb)

_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


def main() -> None:
    """Obey the command line: our own errors become one clear message and exit code 3. Raises KeyboardInterrupt."""
    hide_pandas()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may have no ✓
    try:
        code = app(standalone_mode=False)
    except PartDied as error:
        print(f"fleetsim: {error}", file=sys.stderr)
        code = 4
    except FleetsimError as error:
        print(f"fleetsim: {error}", file=sys.stderr)
        code = 3
    except BrokenPipeError:
        code = 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if error.filename is None and not full:
            raise
        print(f"fleetsim: {error.filename or 'it could not be written'}: {error.strerror}", file=sys.stderr)
        code = 4 if full else 3
    except Exception as error:  # typer's usage errors carry their own text
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        code = 3
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)
