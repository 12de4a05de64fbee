"""Which config serves a manifest's policy: its tensors, the variant that is served, and what a deployment adds.

Two instances, a bounded queue that refuses late work, two priorities and a warm-up for everything; a plan brings its own batch
sizes and profiles. Called by `publish`. It opens no file and knows no GPU but by number.
"""

from dataclasses import dataclass

from export.contract import wire
from export.contract.manifest import Manifest
from export.contract.runtime import Variant
from export.triton_config.config import (
    Backend,
    Batching,
    Instances,
    Kind,
    Tensor,
    TensorRt,
    TritonConfig,
    Warmup,
    WarmupData,
)
from export.triton_config.config_file import ConfigFile
from export.triton_config.server_version import EMBEDDED, ServerVersion

MAX_BATCH_SIZE = 16
WARM_BATCHES = (1, 4)
HEAVY_PLAN_BYTES = 8 << 30  # each instance holds the plan once; two of these are more than a workstation's GPU has
GRAPH_BATCHES = (1, 2, 4, 8, 16)
# Milliseconds; the edges at 200 and 500 are those of the API's own histogram.
FIRST_RESPONSE_BUCKETS_MS = (5, 10, 20, 40, 80, 120, 200, 500, 1000)
THREADS = {"intra_op_threads": "1"}  # of ONNX Runtime, per instance on the CPU
# Runners that Triton brings itself; every other runner is a file that the Python backend loads.
NATIVE = {"tensorrt_plan": Backend.TENSORRT, "onnxruntime": Backend.ONNXRUNTIME}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a manifest cannot know. Without `gpus` a plan and what asks for CUDA run on GPU 0, everything else on the CPU.

    With one instance in all (a policy that fits only once) the queue has no bound, no timeout and no priorities: a queue policy
    would stall it (decision 0005), and the control plane keeps deadlines anyway.
    """

    server: ServerVersion = EMBEDDED
    gpus: tuple[int, ...] = ()
    instances: int | None = None  # on each GPU; None: two, or one of a plan that does not fit twice
    warmup: WarmupData | None = None  # None: a real example for a policy that speaks in tokens, zeros for every other


def config_of(manifest: Manifest, deployment: Deployment | None = None) -> ConfigFile:
    """The config of the manifest's served variant. Raises ConfigContradiction."""
    given, variant = deployment or Deployment(), manifest.served_variant
    instances = _instances(variant, given)
    warmup = given.warmup or (WarmupData.ZEROS if manifest.tokens is None else WarmupData.FILES)
    largest = _largest_batch(variant)
    config = TritonConfig(
        name=manifest.policy,
        versions=(manifest.version,),
        inputs=tuple(Tensor(name=one.name, dtype=one.dtype, shape=one.shape) for one in wire.inputs_of(manifest)),
        outputs=tuple(Tensor(name=one.name, dtype=one.dtype, shape=one.shape) for one in wire.outputs_of(manifest)),
        backend=NATIVE.get(variant.runner, Backend.PYTHON),
        max_batch_size=largest,
        batching=Batching() if instances.total > 1 else Batching(queue=None, priorities=None),
        instances=instances,
        warmups=tuple(Warmup(batch=batch, data=warmup) for batch in WARM_BATCHES if batch <= largest),
        tensorrt=_tensorrt(manifest, largest) if variant.runner == "tensorrt_plan" else None,
        metric_tags={"family": manifest.family, "variant": variant.name},
        first_response_buckets_ms=FIRST_RESPONSE_BUCKETS_MS,
        parameters={**THREADS, **variant.parameters},
    )
    return ConfigFile(config=config, server=given.server)


def _instances(variant: Variant, given: Deployment) -> Instances:
    needs_gpu = variant.plan is not None or variant.parameters.get("provider") == "cuda"
    gpus = given.gpus or ((0,) if needs_gpu else ())
    profiles = tuple(range(len(variant.plan.graphs[0].profiles))) if variant.plan is not None and variant.runner in NATIVE else ()
    usual = 1 if variant.plan is not None and variant.plan.bytes > HEAVY_PLAN_BYTES else 2
    count = usual if given.instances is None else given.instances
    return Instances(kind=Kind.GPU if gpus else Kind.CPU, count=count, gpus=gpus, profiles=profiles)


def _largest_batch(variant: Variant) -> int:
    """The largest that a profile of the plan takes, or of the `batches` that a runner prepares."""
    if variant.plan is not None:
        return variant.plan.largest_batch
    prepared = variant.parameters.get("batches")
    return MAX_BATCH_SIZE if prepared is None else max(map(int, prepared.split(",")))


def _tensorrt(manifest: Manifest, largest: int) -> TensorRt:
    """Every plan of the bundle by its GPU's compute capability: one folder serves several kinds of GPU."""
    plans = {one.plan.compute_capability: one.files[0] for one in manifest.variants if one.plan and one.runner == "tensorrt_plan"}
    return TensorRt(plans=plans, graph_batches=tuple(batch for batch in GRAPH_BATCHES if batch <= largest))
