"""The live line stays one row of the terminal that it is on."""

import os
import pty
import select
import termios

import pytest

from simulator.worlds.progress import SeedLine


@pytest.fixture
def terminal():
    """(a stream to a terminal of 40 columns, what is read at its other end)."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 40))
    with os.fdopen(slave, "w") as stream:
        yield stream, lambda: os.read(master, 4096).decode() if select.select([master], [], [], 5)[0] else ""
    os.close(master)


def test_the_line_is_cut_where_the_row_ends(terminal):
    stream, read = terminal
    SeedLine(1000, stream).show(61.0, 512, 3)
    drawn = read().removeprefix("\r").removesuffix("\x1b[K")
    assert drawn.startswith("     61 s [██████████")
    assert len(drawn) == 39


def test_a_stream_that_is_no_terminal_gets_it_whole(tmp_path):
    with (tmp_path / "log").open("w+") as stream:
        SeedLine(1000, stream).show(61.0, 512, 3)
        stream.seek(0)
        assert "512 of 1,000 seeds, 3 failed, 8.4 seeds/s" in stream.read()
