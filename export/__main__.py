"""`vlaapi export`: make a policy's bundle, prove one again, also through a running Triton. Knows each family by name.

A policy is exported from its own checkpoint into `model_repository/<policy>`; nothing there changes unless parity holds.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.benchmark.commands import benchmark
from export.bundle import BundleChanged
from export.contract.manifest import ManifestError, load_manifest
from export.parity import Agreement, ParityBroken
from export.policies import tabletop
from export.publish import publish, write_card
from export.served import verify_served
from export.verify import verify

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = {"tabletop": tabletop}
Repository = Annotated[Path, typer.Option(help="Where bundles live.")]
app = typer.Typer(
    help="Make, prove and inspect policies that Triton can serve.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command("benchmark")(benchmark)
console = Console(soft_wrap=True, highlight=False)


@app.command("tabletop")
def export_tabletop(repository: Repository = ROOT / "model_repository", version: int = 1) -> None:
    """Export the tabletop policy from its committed weights."""
    try:
        _show(publish(tabletop, repository, version=version))
    except ParityBroken as broken:
        raise typer.Exit(_fail(f"not published: {broken}")) from None
    console.print(f"published {repository / 'tabletop'}")


@app.command("verify")
def verify_bundle(
    policy: str,
    repository: Repository = ROOT / "model_repository",
    triton: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Triton's gRPC; without it, ONNX Runtime in this process.")
    ] = None,
) -> None:
    """Check a bundle's hashes and run its golden vectors."""
    folder = repository / policy
    try:
        _show(verify(folder) if triton is None else verify_served(folder, triton))
    except (ManifestError, ParityBroken, BundleChanged) as broken:
        raise typer.Exit(_fail(str(broken))) from None


@app.command("card")
def write_model_card(policy: str, repository: Repository = ROOT / "model_repository") -> None:
    """Write the model card again, after an evaluation."""
    folder = repository / policy
    write_card(FAMILIES[policy], folder, verify(folder), load_manifest(folder))


def _show(agreements: tuple[Agreement, ...]) -> None:
    for one in agreements:
        console.print(f"{one.tensor}: differs by at most {one.max_abs_difference:.2e}, allowed {one.atol:.0e}")


def _fail(message: str) -> int:
    console.print(message, style="red")
    return 1


if __name__ == "__main__":
    app()
