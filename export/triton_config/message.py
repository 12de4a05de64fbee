"""A config becomes Triton's own protobuf message, for one server version.

Triton's type decides what can be written at all: a misspelt field fails here and not at a customer's start-up. It judges nothing;
`config` has refused what contradicts itself.
"""

from tritonclient.grpc.model_config_pb2 import (
    ModelConfig,
    ModelDynamicBatching,
    ModelInput,
    ModelInstanceGroup,
    ModelMetrics,
    ModelOptimizationPolicy,
    ModelOutput,
    ModelQueuePolicy,
    ModelWarmup,
)

from export.triton_config.config import (
    DTYPES,
    Backend,
    Batching,
    Instances,
    QueuePolicy,
    Tensor,
    TensorRt,
    TritonConfig,
    Warmup,
    WarmupData,
)
from export.triton_config.server_version import ServerVersion

FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"


def message_of(config: TritonConfig, server: ServerVersion) -> ModelConfig:
    """Every field that this server knows."""
    message = ModelConfig(name=config.name, max_batch_size=config.max_batch_size)
    _set_backend(message, config)
    message.input.extend(ModelInput(**_wire(tensor)) for tensor in config.inputs)
    message.output.extend(ModelOutput(**_wire(tensor)) for tensor in config.outputs)
    message.version_policy.specific.versions.extend(config.versions)
    message.instance_group.append(_instances(config.instances))
    if config.batching is not None:
        message.dynamic_batching.CopyFrom(_batching(config.batching))
    if config.tensorrt is not None:
        message.optimization.CopyFrom(_optimization(config.tensorrt, config.inputs))
    message.response_cache.enable = False
    message.response_cache.SetInParent()
    message.model_warmup.extend(_warmup(warmup, config.inputs) for warmup in config.warmups)
    message.metric_tags.update(config.metric_tags)
    for key, value in config.parameters.items():
        message.parameters[key].string_value = value
    if server.has_model_metrics and config.first_response_buckets_ms:
        message.model_metrics.CopyFrom(_metrics(config.first_response_buckets_ms))
    return message


def _set_backend(message: ModelConfig, config: TritonConfig) -> None:
    """A plan is named by its platform, as Triton's own documents do; everything else by its backend."""
    if config.backend is Backend.TENSORRT:
        message.platform = "tensorrt_plan"
    else:
        message.backend = config.backend.value
    if config.tensorrt is not None:
        message.cc_model_filenames.update(config.tensorrt.plans)


def _wire(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "data_type": DTYPES[tensor.dtype], "dims": tensor.shape}


def _instances(instances: Instances) -> ModelInstanceGroup:
    return ModelInstanceGroup(
        kind=instances.kind.value,
        count=instances.count,
        gpus=instances.gpus,
        profile=[str(number) for number in instances.profiles],
    )


def _batching(batching: Batching) -> ModelDynamicBatching:
    found = ModelDynamicBatching(
        preferred_batch_size=batching.preferred,
        max_queue_delay_microseconds=batching.delay_us,
    )
    if batching.queue is not None:
        found.default_queue_policy.CopyFrom(_queue(batching.queue))
    if batching.priorities is not None:
        found.priority_levels = batching.priorities.levels
        found.default_priority_level = batching.priorities.default
        for level, queue in batching.priorities.queues.items():
            found.priority_queue_policy[level].CopyFrom(_queue(queue))
    return found


def _queue(queue: QueuePolicy) -> ModelQueuePolicy:
    return ModelQueuePolicy(
        timeout_action=ModelQueuePolicy.REJECT,
        default_timeout_microseconds=queue.timeout_us,
        allow_timeout_override=queue.is_timeout_overridable,
        max_queue_size=queue.max_size,
    )


def _optimization(plan: TensorRt, inputs: tuple[Tensor, ...]) -> ModelOptimizationPolicy:
    found = ModelOptimizationPolicy(priority=ModelOptimizationPolicy.PRIORITY_MAX)
    found.cuda.output_copy_stream = plan.has_copy_stream
    found.cuda.graphs = bool(plan.graph_batches)
    for batch in plan.graph_batches:
        spec = found.cuda.graph_spec.add(batch_size=batch)
        for tensor in inputs:
            spec.input[tensor.name].dim.extend(tensor.shape)
    return found


def _warmup(warmup: Warmup, inputs: tuple[Tensor, ...]) -> ModelWarmup:
    found = ModelWarmup(name=f"batch_{warmup.batch}_{warmup.data.value}", batch_size=warmup.batch, count=warmup.count)
    for tensor in inputs:
        value = found.inputs[tensor.name]
        value.data_type = DTYPES[tensor.dtype]
        value.dims.extend(abs(size) for size in tensor.shape)  # −1, any size, is warmed up with 1
        if warmup.data is WarmupData.ZEROS:
            value.zero_data = True
        else:
            value.input_data_file = tensor.name
    return found


def _metrics(buckets_ms: tuple[int, ...]) -> ModelMetrics:
    found = ModelMetrics()
    control = found.metric_control.add()
    control.metric_identifier.family = FIRST_RESPONSE
    control.histogram_options.buckets.extend(buckets_ms)
    return found
