"""`vlaapi export`: a checkpoint becomes a proven bundle; a bundle is proven again, also through a running Triton.

One command per family of `export.families`. Whatever goes wrong is one line that says what to do, and exit code 1.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.benchmark.commands import benchmark
from export.beside import put_beside
from export.bundle import EVALUATION_FILE, BundleChanged, refuse_changes
from export.commands_engine import build_engine
from export.commands_torch import build_torch
from export.contract.facts import ActionKind
from export.contract.manifest import MANIFEST_FILE, NAME_PATTERN, ManifestError, load_manifest
from export.families import FAMILIES, open_policy
from export.golden import GoldenUnfit
from export.in_process import RunFailed, RunnerUnavailable
from export.onnx_file import OnnxVersionError
from export.parity import Agreement, ParityBroken
from export.place import PlaceRefused, Present, naming, present
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.precision.steps import PrecisionError
from export.publish import publish, serve_variant, write_card
from export.tensorrt.library import EngineError
from export.triton_config.commands import config
from export.triton_config.config import ConfigContradiction
from export.verify import verify

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
REFUSALS = (
    BundleChanged,
    CheckpointError,
    ConfigContradiction,
    EngineError,
    GoldenUnfit,
    ManifestError,
    OnnxVersionError,
    ParityBroken,
    PlaceRefused,
    PrecisionError,
    RunFailed,
    RunnerUnavailable,
    OSError,  # a full disk, a folder that may not be written
)
Repository = Annotated[Path, typer.Option(help="Where bundles live.")]
Version = Annotated[int, typer.Option(min=1, max=2**31 - 1, help="The version that Triton serves it as.")]
Published = Annotated[str, typer.Argument(help="The policy, as its folder in the repository is called.")]
app = typer.Typer(
    help="Make, prove and inspect policies that Triton can serve.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command("benchmark")(benchmark)
app.command("config")(config)
console = Console(soft_wrap=True, highlight=False)


@app.command("tabletop")
def export_tabletop(
    weights: Annotated[Path, typer.Option(help="What `vlaapi tabletop train` wrote, else the shipped ones.")] = ROOT
    / "tabletop"
    / "weights",
    repository: Repository = REPOSITORY,
    version: Version = 1,
) -> None:
    """Export the tabletop policy from its weights."""
    options = CheckpointOptions(checkpoint=weights, name="tabletop", robots=("franka_panda",))
    with one_line_refusals():
        _publish("tabletop", options, repository, version)


def _robots(family: str, given: list[str] | None) -> tuple[str, ...]:
    return FAMILIES[family].default_robots if given is None else tuple(given)


def command_of(family: str) -> Callable[..., None]:
    """What `vlaapi export <family>` runs."""

    def export_checkpoint(  # the command's options: typer reads the signature
        checkpoint: Annotated[Path, typer.Option(help="The checkpoint's folder.")],
        name: Annotated[str, typer.Option(help="What the policy is called: folder, model in Triton, `model` in requests.")],
        robot: Annotated[
            list[str] | None, typer.Option(help="A robot that it fits, else the family's own; again for another.")
        ] = None,
        unnorm_key: Annotated[list[str] | None, typer.Option(help="Statistics to keep, else all; may be given again.")] = None,
        control_hz: Annotated[float | None, typer.Option(min=0.001, help="Steps a second that it was trained for.")] = None,
        licence: Annotated[str | None, typer.Option(help="The weights' licence, where the checkpoint does not say.")] = None,
        kind: Annotated[ActionKind | None, typer.Option(help="What its actions mean, where the checkpoint does not say.")] = None,
        crop_area: Annotated[
            float | None,
            typer.Option(min=0.01, max=1, help="Share of the picture that a centre crop keeps (0.9 after augmentation)."),
        ] = None,
        rotate_180: Annotated[  # noqa: FBT002 -- a flag: typer reads the signature
            bool, typer.Option("--rotate-180", help="Pictures were turned upside down, as LIBERO's are.")
        ] = False,
        repository: Repository = REPOSITORY,
        version: Version = 1,
    ) -> None:
        with one_line_refusals():
            _refuse_words(name, licence)
            options = CheckpointOptions(
                checkpoint=checkpoint,
                name=name,
                robots=_robots(family, robot),
                robots_are_assumed=robot is None,
                unnorm_keys=None if unnorm_key is None else tuple(unnorm_key),
                control_hz=control_hz,
                licence=licence,
                kind=kind,
                crop_area=crop_area,
                rotate_180=rotate_180,
            )
            _publish(family, options, repository, version)

    return export_checkpoint


for _name, _family in FAMILIES.items():
    if _name != "tabletop":
        app.command(_name, help=f"Export {_family.checkpoints}.")(command_of(_name))


@app.command("verify")
def verify_bundle(
    policy: Published,
    repository: Repository = REPOSITORY,
    triton: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Triton's gRPC; without it, the bundle's runner in this process.")
    ] = None,
) -> None:
    """Check a bundle's hashes and run its golden vectors again."""
    with one_line_refusals():
        folder = _published(repository, policy)
        if triton is None:
            _show(verify(folder))
        else:
            _verify_served(folder, triton)


@app.command("serve")
def serve(
    policy: Published,
    variant: Annotated[str, typer.Argument(help="The variant, as the model card lists it.")],
    repository: Repository = REPOSITORY,
) -> None:
    """Choose which variant of a bundle Triton runs (a plan, say), once it is proven on this machine."""
    with one_line_refusals():
        folder = _published(repository, policy)
        _show(serve_variant(folder, variant))
    console.print(f"{folder} is now served by {variant}; a running service takes it up at its next start", markup=False)


@app.command("card")
def write_model_card(
    policy: Published,
    repository: Repository = REPOSITORY,
    evaluation: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="An evaluation's JSON, to keep with the bundle and show.")
    ] = None,
) -> None:
    """Write the model card again, after a benchmark or an evaluation."""
    with one_line_refusals():
        folder = _published(repository, policy)
        load_manifest(folder)
        if evaluation is not None:
            with naming(folder / EVALUATION_FILE):
                shutil.copy(evaluation, folder / EVALUATION_FILE)
        write_card(folder)
    console.print(f"wrote {repository / policy / 'MODEL_CARD.md'}")


@app.command("beside")
def keep_beside(
    policy: Published,
    source: Annotated[Path | None, typer.Option(help="The repository it lies in, if another.")] = None,
    repository: Repository = REPOSITORY,
) -> None:
    """Put a published bundle into the repository as one more version, beside the one that its policy's folder holds."""
    with one_line_refusals():
        place = put_beside(_published(source or repository, policy), repository)
    console.print(f"published {place}; Triton takes it up when it restarts, the API with `vlaapi policies reload`", markup=False)


def _published(repository: Path, policy: str) -> Path:
    """The bundle's folder. Raises ManifestError with those that there are."""
    folder = repository / policy
    if not (folder / MANIFEST_FILE).exists():
        known = ", ".join(sorted(found.parent.name for found in repository.glob(f"*/{MANIFEST_FILE}")))
        there = f"there are {known}" if known else "there is none, export one first"
        raise ManifestError(f"{folder}: no manifest, so no policy {policy!r} is there; in {repository} {there}")
    return folder


@contextmanager
def one_line_refusals() -> Iterator[None]:
    """What the exporter refuses ends the command with one line and exit code 1."""
    try:
        yield
    except REFUSALS as refusal:
        console.print(_line(refusal), style="red", markup=False)
        raise typer.Exit(1) from None


def _line(refusal: Exception) -> str:
    """In place of `[Errno 27] File too large`: the file, and what is wrong with it."""
    if isinstance(refusal, OSError) and refusal.filename is not None and refusal.strerror:
        return f"{refusal.filename}: {refusal.strerror}; choose another place, or make room for it"
    return " ".join(str(refusal).split("\n"))


def _refuse_words(name: str, licence: str | None) -> None:
    """What can be said about the options before a checkpoint is read."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise CheckpointError(
            f"--name is {name!r}; it becomes a folder and a model in Triton, so it may hold letters, digits, '.', '_' and '-', "
            "begins with a letter or digit and has at most 128 characters"
        )
    if licence is not None and not licence.strip():
        raise CheckpointError("--licence is empty: name the licence of the weights, for example Apache-2.0, or leave it out")


def _publish(family: str, options: CheckpointOptions, repository: Path, version: int) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which nothing here uses
    place = repository / options.name
    before = present(place)
    try:
        _show(publish(open_policy(family, options), repository, version=version, checkpoint=options.checkpoint))
    except ParityBroken as broken:
        console.print(f"not published: {broken}", style="red", markup=False)
        raise typer.Exit(1) from None
    console.print(_announced(place, version, before), markup=False)


def _announced(place: Path, version: int, before: Present | None) -> str:
    replaced = "" if before is None or before.version == version else f", in place of version {before.version}"
    return (
        f"published {place}, version {version}{replaced}; a running service takes it up at its next start: vlaapi down, vlaapi up"
    )


def _verify_served(folder: Path, address: str) -> None:
    from export.served import TritonFailed, verify_served

    refuse_changes(folder, load_manifest(folder))
    try:
        proof = verify_served(folder, address)
    except TritonFailed as failure:
        console.print(str(failure), style="red", markup=False)
        raise typer.Exit(1) from None
    _show(proof.agreements)
    console.print(f"largest batch that Triton formed: {proof.largest_batch}")


def _show(agreements: tuple[Agreement, ...]) -> None:
    for one in agreements:
        console.print(f"{one}, {one.examples} examples", markup=False)


app.command("build-engine")(one_line_refusals()(build_engine))
app.command("build-torch")(one_line_refusals()(build_torch))


def run() -> None:
    """Reads the process' arguments and ends the process."""
    app(prog_name="vlaapi export")


if __name__ == "__main__":
    run()
