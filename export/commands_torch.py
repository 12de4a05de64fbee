"""`vlaapi export build-torch`: PyTorch programs of a bundle's checkpoint, for GPUs without TensorRT.

It only reads the command line and shows what happens; `export.policies.openvla.torch_variant` does the work.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.contract.manifest import load_manifest
from export.least_agreement import LEAST_AGREEMENT, LeastAgreement
from export.policies.adapter import CheckpointOptions
from export.policies.openvla import open_checkpoint
from export.policies.openvla.torch_variant import Precision, add_torch_variant

REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"


def build_torch(
    name: Annotated[str, typer.Argument(help="The policy, as its folder in the repository is called; of family openvla.")],
    *,
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint that it was exported from.")],
    precision: Annotated[Precision, typer.Option(help="What weights are kept in.")] = Precision.BF16,
    cpu: Annotated[bool, typer.Option("--cpu", help="Serve on the CPU instead of a CUDA device.")] = False,
    least_agreement: LeastAgreement = LEAST_AGREEMENT,
    repository: Annotated[Path, typer.Option(help="Where bundles live.")] = REPOSITORY,
) -> None:
    """Add PyTorch programs to a bundle, prove them against its golden vectors and serve them."""
    bundled = load_manifest(repository / name)
    keys = bundled.action.unnorm_keys
    options = CheckpointOptions(checkpoint=checkpoint, name=name, robots=bundled.robots, unnorm_keys=keys)
    provider = "cpu" if cpu else "cuda"
    agreements = add_torch_variant(
        open_checkpoint(options),
        repository / name,
        checkpoint=checkpoint,
        precision=precision,
        provider=provider,
        least_agreement=least_agreement,
    )
    console = Console(soft_wrap=True, highlight=False)
    for one in agreements:
        console.print(f"{one}, {one.examples} examples", markup=False)
    console.print(f"{repository / name} is now served by torch-{provider}-{precision}", markup=False)
