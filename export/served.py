"""Proves a policy through a running Triton: its golden vectors over gRPC must come back as the original network answered.

It needs tritonclient, no torch and no ONNX Runtime. Used by `vlaapi export verify --triton` and by the tests.
"""

from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from export.bundle import load_golden
from export.contract.manifest import Manifest, load_manifest
from export.parity import Agreement, Arrays, compare

TIMEOUT_S = 10.0
_TYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}


def verify_served(folder: Path, address: str) -> tuple[Agreement, ...]:
    """One agreement per output from the Triton at `address` (host:port, gRPC). Raises ParityBroken."""
    manifest, golden = load_manifest(folder), load_golden(folder)
    client = triton.InferenceServerClient(address)
    try:
        rows = [
            ask(client, manifest, {name: value[[row]] for name, value in golden.inputs.items()}) for row in range(golden.count)
        ]
    finally:
        client.close()
    found = {output.tensor: np.concatenate([row[output.tensor] for row in rows]) for output in manifest.outputs}
    return compare(found, golden.outputs, manifest.outputs)


def ask(client: triton.InferenceServerClient, manifest: Manifest, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
    """One request; arrays are batch first. Raises tritonclient's InferenceServerException."""
    tensors = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), _TYPES[str(value.dtype)])
        tensor.set_data_from_numpy(np.ascontiguousarray(value))
        tensors.append(tensor)
    wanted = [output.tensor for output in manifest.outputs]
    answer = client.infer(
        manifest.policy,
        tensors,
        model_version=str(manifest.version),
        outputs=[triton.InferRequestedOutput(name) for name in wanted],
        client_timeout=TIMEOUT_S,
    )
    return {name: answer.as_numpy(name) for name in wanted}
