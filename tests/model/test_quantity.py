"""Quantities by table: what people write, what it means, and what an error tells them to write instead."""

import math

import pytest

from simulator.model import quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m 15s", 5415.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("2d", 172800.0),
        ("5 M", 300.0),
        (0, 0.0),
        (12, 12.0),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_seconds(text, seconds):
    assert quantity.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("16KiB", 16384), ("32MB", 32_000_000), ("1.5 MiB", 1572864), ("1gib", 1 << 30), ("7B", 7), ("2kB", 2000), (0, 0), (9, 9)],
)  # fmt: skip
def test_a_size_is_whole_bytes(text, size):
    assert quantity.size(text) == size
    assert isinstance(quantity.size(text), int)


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("40mbit", 5e6), ("250kbit", 31250.0), ("8bit", 1.0), ("1gbit", 125e6), (0, 0.0), (1000, 1000.0)],
)
def test_a_bandwidth_is_bytes_a_second(text, bytes_per_s):
    assert quantity.bandwidth(text) == bytes_per_s


@pytest.mark.parametrize(
    ("text", "fraction"), [("10%", 0.1), ("0%", 0.0), ("100 %", 1.0), ("0.5%", 0.005), (0, 0.0), (1, 1.0), (0.25, 0.25)]
)
def test_a_share_is_a_fraction(text, fraction):
    assert quantity.share(text) == fraction


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("200/s", ("rate", 200.0)),
        ("0.5 / s", ("rate", 0.5)),
        ("30s", ("over", 30.0)),
        ("1m30s", ("over", 90.0)),
        (0, ("over", 0.0)),
        (("rate", 7.0), ("rate", 7.0)),
        (["over", 7], ("over", 7.0)),
    ],
)
def test_a_ramp_is_a_rate_or_a_time_for_all(text, pair):
    assert quantity.ramp(text) == pair


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        (">= 95%", (">=", 0.95)),
        ("> 0.1", (">", 0.1)),
        ("<5%", ("<", 0.05)),
        (" <= 1 ", ("<=", 1.0)),
        ([">=", 0.5], (">=", 0.5)),
    ],
)
def test_a_threshold_is_an_operator_and_a_share(text, pair):
    assert quantity.threshold(text) == pair


@pytest.mark.parametrize(
    ("parse", "texts", "says"),
    [
        (quantity.duration, ["30", "5x", "1h30", "", "-5s", "s", -1, math.inf, math.nan, 10**400, "9e9s", True, None, [1]], "is not a duration; write 30s, 5m or 1h30m"),
        (quantity.size, ["16", "16K", "1KiB 1B", -1, 1.5, True, None, 10**400], "is not a size; write 16KiB or 32MB"),
        (quantity.bandwidth, ["40", "40mbps", "5MB", "1kbit 1kbit", -1, math.inf, False], "is not a bandwidth; write 40mbit or 250kbit, or 0 for no limit"),
        (quantity.share, ["110%", "10", "-1%", 1.01, -0.1, math.nan, True, None, 10**400], "is not a share; write 10%, or a number from 0 to 1"),
        (quantity.ramp, ["0/s", "5/m", "fast", -1, True, ["rate", 0], ["rate", None], ["slow", 5], [[], 1], ["rate"]], "is not a ramp; write 200/s (devices a second) or 30s (all within)"),
        (quantity.threshold, ["95%", "== 5%", ">= many", 0.5, None, ["=", 0.5], [[1], 2], [">="]], "is not a threshold; write '>= 95%' or '> 10%'"),
        (quantity.rate, ["60", "0/s", "-1/s", "5/h", 60, None, True], "is not a rate; write 60/s or 3600/min"),
    ],
    ids=["duration", "size", "bandwidth", "share", "ramp", "threshold", "rate"],
)  # fmt: skip
def test_an_error_quotes_the_text_and_says_what_to_write(parse, texts, says):
    for text in texts:
        with pytest.raises(ValueError, match="is not a") as error:
            parse(text)
        assert str(error.value) == f"{text!r} {says}"


@pytest.mark.parametrize(("text", "rate"), [("60/s", 60), ("0.5 / s", 0.5), ("90/min", 1.5)])
def test_a_rate_is_so_many_a_second(text, rate):
    assert quantity.rate(text) == rate


@pytest.mark.parametrize("text", [">= 95", "> 101%", [">=", 2]])
def test_a_threshold_of_more_than_everything_is_no_share(text):
    with pytest.raises(ValueError, match="is not a share"):
        quantity.threshold(text)
