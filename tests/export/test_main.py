"""The `vlaapi export` command says what it found and exits 1 when a bundle cannot be trusted."""

import importlib
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from export.__main__ import app, command_of
from export.contract.manifest import load_manifest
from export.families import DATA_ERRORS, FAMILIES, Family, open_policy
from export.policies.adapter import CheckpointError, CheckpointOptions

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLE, tmp_path / "tabletop")
    return tmp_path


def test_a_good_bundle_is_proven(repository: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)])
    assert result.exit_code == 0
    assert "action: " in result.stdout
    assert "12 examples" in result.stdout


def test_a_changed_bundle_is_refused(repository: Path) -> None:
    with (repository / "tabletop" / "config.pbtxt").open("a") as config:
        config.write("# changed\n")
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)])
    assert result.exit_code == 1
    assert "changed since export: config.pbtxt" in result.stdout


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(tmp_path)])
    assert result.exit_code == 1
    assert "no manifest" in result.stdout


def test_what_is_wrong_is_one_line_without_a_traceback(repository: Path) -> None:
    (repository / "tabletop" / "manifest.json").write_text('{"schema_version": 1}')
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)])
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1
    assert "export it again" in result.stdout


def test_a_triton_that_is_not_there_is_one_line(repository: Path) -> None:
    words = ["verify", "tabletop", "--repository", str(repository), "--triton", "127.0.0.1:1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stdout.startswith("Triton at 127.0.0.1:1: ")
    assert result.stdout.count("\n") == 1


def test_a_triton_is_not_asked_about_a_changed_bundle(repository: Path) -> None:
    with (repository / "tabletop" / "golden.npz").open("ab") as golden:
        golden.write(b" ")
    words = ["verify", "tabletop", "--repository", str(repository), "--triton", "127.0.0.1:1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "changed since export: golden.npz" in result.stdout


def test_a_triton_is_not_asked_about_facts_that_were_changed_by_hand(repository: Path) -> None:
    manifest = repository / "tabletop" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"atol": 0.0001', '"atol": 1000.0'))
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository), "--triton", "127.0.0.1:1"])
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert "changed since export: manifest.json" in result.stdout


def test_the_card_shows_an_evaluation_that_came_later(repository: Path) -> None:
    evaluation = repository / "tabletop" / "evaluation.json"
    later = json.loads(evaluation.read_text()) | {"limits": ["Only on Tuesdays."]}
    (repository / "later.json").write_text(json.dumps(later))
    words = ["card", "tabletop", "--repository", str(repository), "--evaluation", str(repository / "later.json")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert "- Only on Tuesdays." in (repository / "tabletop" / "MODEL_CARD.md").read_text()
    assert CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)]).exit_code == 0


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command of a family as `vlaapi export` would have it."""
    monkeypatch.setitem(
        FAMILIES, "tiny", Family(module="tests.export.tiny_policy", checkpoints="nothing", default_robots=("ur5e",))
    )
    command = typer.Typer()
    command.command("tiny")(command_of("tiny"))
    return command


def test_a_checkpoint_becomes_a_bundle_in_one_command(tiny: typer.Typer, tmp_path: Path) -> None:
    where = ["--checkpoint", str(tmp_path), "--name", "mine", "--repository", str(tmp_path / "made" / "models"), "--version", "4"]
    result = CliRunner().invoke(tiny, [*where, "--robot", "ur5e", "--robot", "franka_panda"])
    assert result.exit_code == 0, result.stdout
    assert "tokens: 100.00% equal, needed 100.00%, 64 examples" in result.stdout
    manifest = load_manifest(tmp_path / "made" / "models" / "mine")
    assert (manifest.policy, manifest.version, manifest.robots) == ("mine", 4, ("ur5e", "franka_panda"))
    assert "models/mine, version 4; a running service takes it up at its next start: vlaapi down, vlaapi up\n" in result.stdout

    again = CliRunner().invoke(tiny, [*where[:-1], "5"])
    assert "models/mine, version 5, in place of version 4; a running service" in again.stdout
    earlier = CliRunner().invoke(tiny, [*where[:-1], "3"])
    assert (earlier.exit_code, earlier.stdout.count("\n")) == (1, 1)
    assert "holds version 5" in earlier.stdout


def test_a_graph_that_differs_ends_with_one_line_and_nothing_published(tiny: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "fault").write_text("PADDING_SEEN")
    repository = tmp_path / "made" / "models"
    result = CliRunner().invoke(tiny, ["--checkpoint", str(tmp_path), "--name", "mine", "--repository", str(repository)])
    assert result.exit_code == 1
    assert result.stdout.startswith("not published: differs from the original network: ")
    assert "; tokens: " in result.stdout
    assert result.stdout.count("\n") == 1
    assert list(repository.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoint", "nowhere", "--name", "mine"], "nowhere is not a folder; give the folder of a downloaded checkpoint"),
        *(
            (["--checkpoint", "nowhere", "--name", name], f"--name is {name!r}; ")
            for name in ("../mine", "", "a b", "-x", "x" * 129)
        ),
        (["--checkpoint", "nowhere", "--name", "mine", "--licence", ""], "--licence is empty: "),
        (["--checkpoint", "nowhere", "--name", "mine", "--licence", " "], "--licence is empty: "),
    ],
)
def test_what_an_operator_gets_wrong_is_one_line(words: list[str], said: str, tiny: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(tiny, [*words, "--repository", str(tmp_path / "models")])
    assert result.exit_code == 1
    assert result.stdout.startswith(said)
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize("version", ["0", "-1", "2147483648"])
def test_a_version_that_triton_cannot_serve_is_refused(version: str) -> None:
    result = CliRunner().invoke(app, ["tabletop", "--version", version])
    assert result.exit_code == 2
    assert "'--version': " in result.output


@pytest.mark.parametrize("command", ["verify", "card"])
def test_an_unknown_policy_is_answered_with_those_that_there_are(repository: Path, command: str) -> None:
    shutil.copytree(BUNDLE, repository / "desk")
    result = CliRunner().invoke(app, [command, "tabeltop", "--repository", str(repository)])
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert "no policy 'tabeltop' is there" in result.stdout
    assert result.stdout.endswith("there are desk, tabletop\n")


@pytest.mark.parametrize("command", ["verify", "card"])
def test_help_says_what_the_argument_is(command: str) -> None:
    assert "as its folder in the repository" in CliRunner().invoke(app, [command, "--help"]).stdout


def test_a_repository_that_is_a_file_is_named(tiny: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    result = CliRunner().invoke(tiny, ["--checkpoint", str(tmp_path), "--name", "m", "--repository", str(tmp_path / "models")])
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert result.stdout.startswith(f"{tmp_path / 'models'}")
    assert "Errno" not in result.stdout


@contextmanager
def small_files() -> Iterator[None]:
    """No file may have more bytes than this, as with a quota: not the test's own report either, so keep it short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_has_no_room_is_named(tiny: typer.Typer, tmp_path: Path) -> None:
    words = ["--checkpoint", str(tmp_path), "--name", "m", "--repository", str(tmp_path / "models")]
    with small_files():
        result = CliRunner().invoke(tiny, words)
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert "/m/golden.npz: File too large" in result.stdout
    assert "Errno" not in result.stdout


def test_every_family_that_is_listed_opens_checkpoints() -> None:
    for family in FAMILIES.values():
        assert callable(importlib.import_module(family.module).open_checkpoint)


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    options = CheckpointOptions(checkpoint=tmp_path / "none", name="x", robots=("ur5e",))
    with pytest.raises(CheckpointError, match="is not a folder; give the folder of a downloaded checkpoint"):
        open_policy("tabletop", options)


def test_a_package_that_a_family_needs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needy_family.py").write_text("import a_package_of_robots\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FAMILIES, "needy", Family(module="needy_family", checkpoints="none"))
    options = CheckpointOptions(checkpoint=tmp_path, name="x", robots=("ur5e",))
    with pytest.raises(CheckpointError, match="needy needs the package a_package_of_robots"):
        open_policy("needy", options)


def test_all_that_nobody_says_is_asked_for_at_once(tmp_path: Path) -> None:
    shutil.copytree("tests/fixtures/act_tiny", tmp_path / "act_tiny")
    config = json.loads((tmp_path / "act_tiny" / "config.json").read_text())
    (tmp_path / "act_tiny" / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "license"}))
    words = ["--checkpoint", str(tmp_path / "act_tiny"), "--name", "mine", "--repository", str(tmp_path)]
    result = CliRunner().invoke(app, ["act", *words])
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    for option in ("--robot", "--kind", "--control-hz", "--licence"):
        assert option in result.stdout


@pytest.mark.parametrize("error", DATA_ERRORS, ids=lambda error: error.__name__)
def test_what_a_family_did_not_foresee_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[Exception]
) -> None:
    def surprised(options: CheckpointOptions) -> None:
        raise error("first line\nsecond line")

    monkeypatch.setattr("tests.export.tiny_policy.open_checkpoint", surprised)
    monkeypatch.setitem(FAMILIES, "tiny", Family(module="tests.export.tiny_policy", checkpoints="nothing"))
    with pytest.raises(CheckpointError) as refused:
        open_policy("tiny", CheckpointOptions(checkpoint=tmp_path, name="x", robots=("ur5e",)))
    assert f"{tmp_path}: cannot be opened as tiny ({error.__name__}: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_family_that_reads_its_own_crop_refuses_the_operators(tmp_path: Path) -> None:
    words = ["--checkpoint", str(tmp_path), "--name", "mine", "--repository", str(tmp_path), "--crop-area", "0.9"]
    result = CliRunner().invoke(app, ["openvla-oft", *words])
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert "leave the options out" in result.stdout
