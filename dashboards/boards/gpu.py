"""The GPU and Triton dashboard: Triton's own counters, the replicas as the control plane sees them, and NVIDIA's exporter."""

from dashboards.boards import traffic
from dashboards.boards.board import GREEN, ORANGE, RED, Board, Kind, Panel, Row, Scale, Step, below, none_is_good, promql
from dashboards.boards.operations import BUSY

_W = traffic.WINDOW


def _us(part: str) -> str:
    """Mean milliseconds of one part of Triton's work, by policy."""
    return (
        f"sum by (model) (rate(nv_inference_{part}_duration_us[{_W}])) "
        f"/ sum by (model) (rate(nv_inference_request_success[{_W}])) / 1000"
    )


_TRITON = Row(
    title="Triton",
    panels=(
        Panel(
            title="Inferences per second",
            means="Requests that each policy answered, by version.",
            kind=Kind.SERIES,
            asks=(promql(f"sum by (model, version) (rate(nv_inference_request_success[{_W}]))", "{{model}} {{version}}"),),
            unit="reqps",
            width=8,
        ),
        Panel(
            title="Failures per second",
            means="REJECTED: its queue was full. CANCELED: the deadline passed. BACKEND, OTHER: the model failed.",
            kind=Kind.SERIES,
            asks=(promql(f"sum by (model, reason) (rate(nv_inference_request_failure[{_W}]))", "{{model}} {{reason}}"),),
            unit="reqps",
            width=8,
            scale=none_is_good(),
        ),
        Panel(
            title="Waiting in Triton",
            means="Requests in a policy's queue. It stays near 0 while there is a free instance.",
            kind=Kind.SERIES,
            asks=(promql("sum by (model) (nv_inference_pending_request_count)", "{{model}}"),),
            unit="short",
            width=8,
            decimals=0,
        ),
        Panel(
            title="Time in Triton's queue",
            means="Mean milliseconds before a policy begins. As long as the compute itself: add a replica.",
            kind=Kind.SERIES,
            asks=(promql(_us("queue"), "{{model}}"),),
            unit="ms",
            width=8,
        ),
        Panel(
            title="Compute",
            means="Mean milliseconds that the model ran for a request. It should not move unless a version did.",
            kind=Kind.SERIES,
            asks=(promql(_us("compute_infer"), "{{model}}"),),
            unit="ms",
            width=8,
        ),
        Panel(
            title="Batch size",
            means="Requests in one run of the model.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    f"sum by (model) (rate(nv_inference_count[{_W}])) / sum by (model) (rate(nv_inference_exec_count[{_W}]))",
                    "{{model}}",
                ),
            ),
            unit="short",
            width=8,
            decimals=1,
        ),
    ),
)

_REPLICAS = Row(
    title="Replicas, as the control plane sees them",
    panels=(
        Panel(
            title="API processes that see a replica so",
            means="Every process should see every replica serving. away: nobody answers. ejected: it answers wrongly or slowly.",
            kind=Kind.SERIES,
            asks=(promql("sum by (replica, state) (vla_replica_processes) > 0", "{{replica}} {{state}}"),),
            unit="short",
            width=8,
            decimals=0,
        ),
        Panel(
            title="Calls at each replica",
            means="Least in flight is asked first, so the lines should lie together.",
            kind=Kind.SERIES,
            asks=(promql("sum by (replica) (vla_replica_in_flight)", "{{replica}}"),),
            unit="short",
            width=8,
            decimals=0,
        ),
        Panel(
            title="Failed calls, retries and ejections per minute",
            means="Failed calls to Triton, calls that moved to another replica, and replicas that were ejected.",
            kind=Kind.SERIES,
            asks=(
                promql(f"60 * (sum(rate(vla_triton_errors_total[{_W}])) or vector(0))", "failed calls"),
                promql(f"60 * (sum(rate(vla_replica_retries_total[{_W}])) or vector(0))", "retried elsewhere"),
                promql(f"60 * (sum(rate(vla_replica_ejections_total[{_W}])) or vector(0))", "ejections"),
            ),
            unit="short",
            width=8,
            scale=none_is_good(),
        ),
    ),
)

_GPU = Row(
    title="GPUs",
    panels=(
        Panel(
            title="Usage",
            means=(
                "A kernel ran on the GPU in this share of the time: 60 to 80 % is right. It does not say that the GPU was full."
            ),
            kind=Kind.SERIES,
            asks=(promql("avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} GPU {{gpu}}"),),
            unit="percent",
            width=8,
            high=100,
            scale=BUSY,
            when_empty="no GPU",
        ),
        Panel(
            title="How full",
            means="Share of time in which anything ran on the compute engine, and in which the tensor cores did.",
            kind=Kind.SERIES,
            asks=(
                promql("avg by (gpu) (DCGM_FI_PROF_GR_ENGINE_ACTIVE)", "engine GPU {{gpu}}"),
                promql("avg by (gpu) (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE)", "tensor cores GPU {{gpu}}"),
            ),
            unit="percentunit",
            width=8,
            high=1,
            when_empty="no GPU",
        ),
        Panel(
            title="Temperature",
            means="Above 85 °C somebody is told to look at the cooling; the GPU throttles soon after.",
            kind=Kind.SERIES,
            asks=(
                promql("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} GPU {{gpu}}"),
                # A GPU without that sensor reports a huge number.
                promql("max by (Hostname, gpu) (DCGM_FI_DEV_MEMORY_TEMP < 200)", "{{Hostname}} memory of {{gpu}}"),
            ),
            unit="celsius",
            width=8,
            high=100,
            scale=below(80, 85, is_line=True),
            when_empty="no GPU",
        ),
        Panel(
            title="GPU memory used",
            means="Share of each GPU's memory. Triton keeps what it has taken, so it rises when a policy is loaded and stays.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    "sum by (Hostname, gpu) (DCGM_FI_DEV_FB_USED) "
                    "/ (sum by (Hostname, gpu) (DCGM_FI_DEV_FB_USED) + sum by (Hostname, gpu) (DCGM_FI_DEV_FB_FREE))",
                    "{{Hostname}} GPU {{gpu}}",
                ),
            ),
            unit="percentunit",
            width=8,
            high=1,
            scale=Scale(base=GREEN, steps=(Step(at=0.9, color=ORANGE), Step(at=0.97, color=RED)), is_line=True),
            when_empty="no GPU",
        ),
        Panel(
            title="Power",
            means="Watts of each GPU.",
            kind=Kind.SERIES,
            asks=(promql("sum by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}} GPU {{gpu}}"),),
            unit="watt",
            width=8,
            when_empty="no GPU",
        ),
        Panel(
            title="Clock",
            means="Megahertz of the multiprocessors. A fall under load is throttling.",
            kind=Kind.SERIES,
            asks=(promql("1e6 * avg by (Hostname, gpu) (DCGM_FI_DEV_SM_CLOCK)", "{{Hostname}} GPU {{gpu}}"),),
            unit="hertz",
            width=8,
            when_empty="no GPU",
        ),
        Panel(
            title="Changes of the last XID error, 10 min",
            means="An XID is the driver's word for a fault of the GPU. Any change needs a look at the kernel's log.",
            kind=Kind.STAT,
            asks=(promql("sum(changes(DCGM_FI_DEV_XID_ERRORS[10m]))"),),
            unit="short",
            width=8,
            height=5,
            decimals=0,
            scale=none_is_good(),
            when_empty="no GPU",
        ),
        Panel(
            title="GPU usage by Triton",
            means="Triton's own reading of the GPUs that it uses.",
            kind=Kind.SERIES,
            asks=(promql("100 * avg by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}"),),
            unit="percent",
            width=8,
            height=5,
            high=100,
            when_empty="no GPU",
        ),
        Panel(
            title="Triton's machine",
            means="CPU of the machine that Triton runs on.",
            kind=Kind.SERIES,
            asks=(promql("100 * avg by (instance) (nv_cpu_utilization)", "{{instance}}"),),
            unit="percent",
            width=8,
            height=5,
            high=100,
            scale=below(80, 95, is_line=True),
        ),
    ),
)

GPU = Board(
    uid="vlaapi-gpu",
    title="VLA API: GPU and Triton",
    means="What runs the policies: Triton's queues and times, its replicas, and the GPUs under them.",
    since="now-1h",
    refresh="30s",
    rows=(_TRITON, _REPLICAS, _GPU),
)
