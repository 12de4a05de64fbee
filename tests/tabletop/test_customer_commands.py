"""What a person mistypes, or what is missing, is one line and exit status 1, before anything moves."""

import pytest
from typer.testing import CliRunner

from tabletop import render
from tabletop.__main__ import app

pytestmark = pytest.mark.export
SOMEWHERE = ("--url", "http://127.0.0.1:9")
KEY = {"VLA_KEY": "vla_live_uxeXWRlipe7IRvg6qfwFTr1WuDt4LliTD"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["demo", "--instruction", "dance", *SOMEWHERE], "“dance” asks for nothing that this robot knows"),
        (["demo", "--cube", "pink", *SOMEWHERE], "colours: red, green, blue, yellow, purple"),
        (["demo", "--instruction", "put the red cube in the bowl", *SOMEWHERE], "cannot be done in scene"),
        (["demo", "--cube", "red", "--url", "ftp://robots"], "url 'ftp://robots': write http://HOST:PORT"),
        (["eval", "--task", "fly", *SOMEWHERE], "task 'fly': there are pick_up, move_to, put_in_bowl"),
        (["eval", "--task", "put_in_bowl", *SOMEWHERE], "use --layout varied"),
        (["eval", "--delay-ms", "soon", *SOMEWHERE], "delay-ms 'soon': write milliseconds"),
        (["eval", "--delay-ms", "-5", *SOMEWHERE], "delay-ms '-5': write milliseconds"),
        (["eval", "--episodes", "1", *SOMEWHERE], "connection_lost: "),
        (["score", "--bundle", "/nowhere"], "no exported policy there; `vlaapi export tabletop` makes one"),
        (["rollouts", "--bundle", "/nowhere", "--out", "/nowhere"], "no exported policy there"),
        (["train", "--dataset", "/nowhere"], "it is not a LeRobotDataset, or its writing has not ended; `vlaapi tabletop demos`"),
        (["picture", "out.png", "--camera", "ceiling"], "camera 'ceiling': there are front and wrist"),
    ],
)
@pytest.mark.usefixtures("camera")
def test_what_cannot_be_done_is_one_line(words: list[str], line: str) -> None:
    result = CliRunner().invoke(app, words, env=KEY)
    assert result.exit_code == 1
    assert line in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["demo", *SOMEWHERE],
        ["eval", *SOMEWHERE],
        ["demos", "--episodes", "1", "--processes", "1", "--dataset", "/nowhere/at/all"],
        ["picture", "out.png"],
    ],
)
def test_without_opengl_every_command_names_the_package(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_loads", {}.get)
    result = CliRunner().invoke(app, words, env=KEY)
    assert result.exit_code == 1
    assert "apt install libegl1 libgl1-mesa-dri" in result.output
    assert len(result.output.strip().splitlines()) == 1
