"""The `tabletop` family: what the manifest says about the policy that is trained in this repository.

The facts themselves stand in `tabletop.contract`; this file only arranges them. It knows no ONNX and no Triton.
"""

from export.contract.manifest import Manifest, Output, Source
from tabletop.contract import ACTION, CAMERA, HORIZON, POLICY, STATE
from tabletop.instructions import SPEC

TOLERANCE = 1e-4


def manifest(*, version: int, sha256: dict[str, str]) -> Manifest:
    """The manifest of one exported version; `sha256` is per file of the bundle."""
    return Manifest(
        schema_version=1,
        policy=POLICY,
        version=version,
        family="tabletop",
        description="Picks up the named cube from a table with a simulated Franka Panda (FiLM-CNN, 8-step chunks at 10 Hz).",
        source=Source(
            checkpoint="tabletop/weights/policy.safetensors",
            command="vlaapi tabletop demos && vlaapi tabletop train && vlaapi export tabletop",
            licence="Apache-2.0",
            sha256=sha256,
        ),
        cameras=(CAMERA,),
        state=STATE,
        instruction=SPEC,
        action=ACTION,
        robots=("franka_panda",),
        outputs=(Output(tensor=ACTION.tensor, dtype="float32", shape=(HORIZON, len(ACTION.names)), atol=TOLERANCE),),
        runtimes=("onnx-cpu",),
    )
