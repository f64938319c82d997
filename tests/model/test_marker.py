"""Markers among an artifact's first bytes: which lines are one, and what is made of those that nobody knows."""

import pytest

from simulator.model.marker import MARKERS, Marker, markers, read, written
from simulator.model.scenario import Profile


@pytest.mark.parametrize("word", MARKERS)
def test_each_word_befalls_a_stage(word):
    stage, way = MARKERS[word]
    assert markers(written(word)) == [Marker(word, stage, way, 1.0)]
    assert markers(written(f"{word} 30%")) == [Marker(f"{word} 30%", stage, way, 0.3)]
    if way != "vanish":  # which no profile knows
        Profile.model_validate({"mishaps": {stage: {way: 1}}})


@pytest.mark.parametrize(
    "text", ["", "boot", "boot-fails 130%", "boot-fails often", "boot-fails-30%", "Boot-fails", "boot-fails\t30%"]
)
def test_what_nobody_knows_is_told_and_does_nothing(text):
    assert read(text) == Marker(text)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", []),
        (b"\x7fELF fleetsim:boot-fails\n", []),
        (b"say fleetsim:vanish", []),
        (b"\x7fELF\nfleetsim:boot-fails 0.5\r\nfleetsim: vanish \nrest", ["boot-fails 0.5", "vanish"]),
        (b"fleetsim:boot-fails", ["boot-fails"]),
        (b"fleetsim:\xff\n", ["\ufffd"]),
    ],
)
def test_a_marker_is_a_line_of_its_own(head, found):
    assert [marker.text for marker in markers(head)] == found
