"""Progress is for people at a terminal: a log and a pipe stay clean."""

import pytest

from export.progress import counted, working


def test_nothing_is_written_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with working("exporting model.onnx"), counted("proving", 3) as tick:
        for _ in range(3):
            tick()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_what_is_done_and_how_far(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with counted("proving", 3) as tick:
        tick()
    shown = capfd.readouterr()
    assert "proving" in shown.err
    assert "1/3" in shown.err
    assert shown.out == ""
