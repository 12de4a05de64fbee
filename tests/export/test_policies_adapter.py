"""The command that makes a bundle again names every option that was given, and a shell gives them back as they were."""

import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from export.__main__ import command_of
from export.contract.facts import ActionKind
from export.contract.manifest import load_manifest
from export.families import FAMILIES, Family
from export.policies.adapter import CheckpointOptions

pytestmark = pytest.mark.export
EVERYTHING = [
    *("--robot", "ur5e", "--robot", "it's mine", "--unnorm-key", "bridge_orig", "--unnorm-key", "a b"),
    *("--control-hz", "29.97002997002997", "--licence", "Apache-2.0; see $HOME", "--kind", "joint_abs"),
    *("--crop-area", "0.9", "--rotate-180", "--version", "3"),
]


def test_every_option_that_was_given_is_named_and_quoted(tmp_path: Path) -> None:
    options = CheckpointOptions(
        checkpoint=tmp_path / "a checkpoint" / ".." / "a checkpoint",
        name="mine",
        robots=("ur5e", "it's mine"),
        unnorm_keys=("bridge_orig", "a b"),
        control_hz=29.97002997002997,
        licence="Apache-2.0; see $HOME",
        kind=ActionKind("joint_abs"),
        crop_area=0.9,
        rotate_180=True,
    )
    said = options.command("openvla", version=3)
    assert shlex.split(said) == ["vlaapi", "export", "openvla", "--checkpoint", "a checkpoint", "--name", "mine", *EVERYTHING]
    assert "--licence 'Apache-2.0; see $HOME'" in said


def test_what_was_not_given_is_not_named(tmp_path: Path) -> None:
    options = CheckpointOptions(checkpoint=tmp_path / "weights", name="mine", robots=())
    assert options.command("act", version=1) == "vlaapi export act --checkpoint weights --name mine"
    whole = CheckpointOptions(checkpoint=tmp_path / "weights", name="mine", robots=("ur5e",), control_hz=30.0)
    assert whole.command("act", version=1).endswith("--robot ur5e --control-hz 30")


def test_the_command_line_reads_what_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(FAMILIES, "tiny", Family(module="tests.export.tiny_policy", checkpoints="nothing", takes_crop=True))
    app = typer.Typer()
    app.command("tiny")(command_of("tiny"))
    where = ["--checkpoint", str(tmp_path), "--name", "mine"]
    result = CliRunner().invoke(app, [*where, "--repository", str(tmp_path / "made" / "models"), *EVERYTHING])
    assert result.exit_code == 0, result.stdout
    said = shlex.split(load_manifest(tmp_path / "made" / "models" / "mine").source.command)
    assert said == ["vlaapi", "export", "tiny", "--checkpoint", tmp_path.name, "--name", "mine", *EVERYTHING]
