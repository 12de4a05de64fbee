"""Configs of every kind that we write, and their golden files: `python -m tests.export.golden_configs` rewrites those.

Called by `make golden`. Knows no Triton; `test_triton_config_loads` gives to one what the embedded Triton can load.
"""

from pathlib import Path

from export.triton_config.config import (
    Backend,
    Batching,
    Instances,
    Kind,
    Priorities,
    QueuePolicy,
    Tensor,
    TensorRt,
    TritonConfig,
    Warmup,
    WarmupData,
)
from export.triton_config.config_file import ConfigFile
from export.triton_config.server_version import ServerVersion

FOLDER = Path(__file__).parent / "golden"
IMAGE = Tensor(name="image", dtype="uint8", shape=(224, 224, 3))
WORDS = Tensor(name="input_ids", dtype="int64", shape=(64,))
ACTION = Tensor(name="action", dtype="float32", shape=(8, 7))
NEWEST = ServerVersion(2, 75)
BUCKETS_MS = (20, 40, 80, 200, 500)


def python_cpu(name: str) -> TritonConfig:
    """What most bundles use: the Python backend on the CPU, zeros to warm up."""
    return TritonConfig(
        name=name,
        versions=(1,),
        inputs=(IMAGE, WORDS),
        outputs=(ACTION,),
        warmups=(Warmup(batch=1), Warmup(batch=4, count=2)),
        metric_tags={"variant": "onnx-cpu-fp32"},
        first_response_buckets_ms=BUCKETS_MS,
        parameters={"intra_op_threads": "1"},
    )


def python_priorities(name: str) -> TritonConfig:
    """Everything that a queue can say, two versions side by side, and a real example to warm up."""
    urgent = QueuePolicy(timeout_us=500_000, max_size=8)
    return TritonConfig(
        name=name,
        versions=(3, 4),
        inputs=(IMAGE, WORDS),
        outputs=(ACTION,),
        max_batch_size=8,
        batching=Batching(delay_us=1500, preferred=(4, 8), priorities=Priorities(levels=3, default=2, queues={1: urgent})),
        instances=Instances(count=3),
        warmups=(Warmup(batch=2, data=WarmupData.FILES),),
    )


def tensorrt_gpus(name: str) -> TritonConfig:
    """A plan per kind of GPU, CUDA graphs, profiles."""
    return TritonConfig(
        name=name,
        versions=(1,),
        inputs=(IMAGE, WORDS),
        outputs=(ACTION, Tensor(name="action_tokens", dtype="int64", shape=(7,))),
        backend=Backend.TENSORRT,
        max_batch_size=8,
        instances=Instances(kind=Kind.GPU, count=1, gpus=(0, 1), profiles=(0, 1)),
        warmups=(Warmup(batch=1, count=3), Warmup(batch=8)),
        tensorrt=TensorRt(plans={"9.0": "model_sm90.plan", "8.9": "model_sm89.plan"}, graph_batches=(1, 8)),
        first_response_buckets_ms=BUCKETS_MS,
    )


def onnxruntime_gpu(name: str) -> TritonConfig:
    """One instance on one GPU: no queue policy, because that would stall it."""
    return TritonConfig(
        name=name,
        versions=(1,),
        inputs=(IMAGE, Tensor(name="noise", dtype="float16", shape=(-1, 32))),
        outputs=(ACTION,),
        backend=Backend.ONNXRUNTIME,
        batching=Batching(queue=None, priorities=None),
        instances=Instances(kind=Kind.GPU, count=1, gpus=(0,)),
    )


FILES: dict[str, ConfigFile] = {
    "python_cpu": ConfigFile(config=python_cpu("python_cpu")),
    "python_cpu_newest": ConfigFile(config=python_cpu("python_cpu"), server=NEWEST),
    "python_priorities": ConfigFile(config=python_priorities("python_priorities")),
    "tensorrt_gpus": ConfigFile(config=tensorrt_gpus("tensorrt_gpus"), server=NEWEST),
    "onnxruntime_gpu": ConfigFile(config=onnxruntime_gpu("onnxruntime_gpu")),
}


def main() -> None:
    """Rewrites the golden files."""
    FOLDER.mkdir(exist_ok=True)
    for name, file in FILES.items():
        (FOLDER / f"{name}.pbtxt").write_text(file.text())


if __name__ == "__main__":
    main()
