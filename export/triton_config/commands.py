"""`vlaapi export config`: a bundle's `config.pbtxt` for another Triton or other hardware than the one that lies in it.

It prints and writes nothing: the bundle's own file is covered by its hashes.
"""

from pathlib import Path
from typing import Annotated

import typer

from export.contract.manifest import ManifestError, load_manifest
from export.triton_config.config import ConfigContradiction
from export.triton_config.of_manifest import Deployment, config_of
from export.triton_config.server_version import EMBEDDED, ServerVersion, VersionUnknown

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"


def config(
    policy: Annotated[str, typer.Argument(help="The policy.")],
    repository: Annotated[Path, typer.Option(help="Where bundles live.")] = REPOSITORY,
    server_version: Annotated[str, typer.Option(help="The Triton that will load it, such as 2.75.0.")] = str(EMBEDDED),
    gpu: Annotated[list[int] | None, typer.Option(help="A GPU to run on; may be given again.")] = None,
    instances: Annotated[
        int | None, typer.Option(help="How many at once on each GPU; two, or one of a plan above 8 GiB.")
    ] = None,
) -> None:
    """Print the Triton config of a bundle for another server version or other hardware."""
    try:
        deployment = Deployment(server=ServerVersion.parse(server_version), gpus=tuple(gpu or ()), instances=instances)
        text = config_of(load_manifest(repository / policy), deployment).text()
    except (ConfigContradiction, ManifestError, VersionUnknown) as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(1) from None
    typer.echo(text, nl=False)
