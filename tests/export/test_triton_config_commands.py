"""`vlaapi export config` prints what a bundle's Triton would be told elsewhere, and refuses in one line."""

from pathlib import Path

import pytest
import typer
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner, Result

from export.triton_config.commands import config


def _run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(config)
    return CliRunner().invoke(app, ["tabletop", *words], catch_exceptions=False)


def test_without_more_words_it_is_the_bundles_own_file() -> None:
    assert _run().stdout == Path("model_repository/tabletop/config.pbtxt").read_text()


def test_another_server_and_other_hardware_give_another_config() -> None:
    done = _run("--server-version", "2.75.0", "--gpu", "0", "--gpu", "1", "--instances", "1")
    found = text_format.Parse(done.stdout, model_config_pb2.ModelConfig())
    assert found.HasField("model_metrics")
    assert list(found.instance_group[0].gpus) == [0, 1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--server-version", "26.11"), "'26.11' is no Triton version"),
        (("--instances", "0"), "0 instances"),
        (("--gpu", "0", "--gpu", "0"), "each named once"),
        (("--repository", "/nowhere"), "no manifest"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[str, ...], complaint: str) -> None:
    done = _run(*words)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert complaint in line
