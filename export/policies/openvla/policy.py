"""One opened OpenVLA checkpoint as the exporter wants it: facts, examples, the original's answers, and the graphs to serve.

It arranges what the modules beside it know; it knows no ONNX, no Triton and no model repository. Called by `export.publish`.
"""

from pathlib import Path

import torch
from torch import Tensor

from export.contract.facts import Action, Camera, Instruction, Output, ResizeRule, Tokens
from export.contract.manifest import Manifest, Source
from export.contract.runtime import Variant
from export.contract.statistics import Bounds
from export.onnx import Graph
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.openvla.actions import read_statistics, table
from export.policies.openvla.columns import describe
from export.policies.openvla.config import OpenVlaConfig, read_config
from export.policies.openvla.decode import Act, Continue, Prompt, generate
from export.policies.openvla.examples import frozen_examples
from export.policies.openvla.network import OpenVla, meta_network
from export.policies.openvla.prompt import TOKENIZER_FILE, read_instruction
from export.policies.openvla.weights import load

RUNNER = Path(__file__).parents[2] / "python_backend" / "openvla_decode.py"
GRAPHS = ("prompt.onnx", "continue.onnx", "act.onnx")
VARIANT = "onnx-cpu-fp32"
_HZ = 5.0  # BridgeData V2, on which OpenVLA was evaluated
_ACTION_ATOL = 1e-6  # physical units: equal tokens give equal numbers
_NATS_ATOL = 1e-3


class OpenVlaPolicy:
    """An `adapter.Policy`. The weights stay memory-mapped as stored until float32 is asked for."""

    def __init__(
        self, options: CheckpointOptions, network: OpenVla, instruction: Instruction, statistics: dict[str, Bounds]
    ) -> None:
        self._options, self._network = options, network
        self._instruction, self._statistics = instruction, statistics
        self._count = next(iter(statistics.values())).length
        self._camera = _camera(network.config, options)

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The facts."""
        options, config = self._options, self._network.config
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        return Manifest(
            schema_version=2,
            policy=options.name,
            version=version,
            family="openvla",
            description=f"OpenVLA, {parameters / 1e6:,.0f} M parameters, {self._count} tokens of {config.n_action_bins} bins."
            + self._assumed(),
            source=Source(
                checkpoint=options.checkpoint.resolve().name,
                command=options.command("openvla", version=version),
                licence=options.licence or "not stated by the checkpoint",
                sha256=sha256,
            ),
            cameras=(self._camera,),
            instruction=self._instruction,
            state=None,
            action=self._action(),
            tokens=Tokens(
                tensor="action_tokens",
                is_action_tensor="is_action_token",
                logprob_tensor="token_logprob",
                entropy_tensor="token_entropy",
                vocabulary=self.vocab_size,
            ),
            robots=options.robots,
            outputs=self._outputs(),
            variants=(self._variant(),),
            served=VARIANT,
        )

    def _assumed(self) -> str:
        """What the checkpoint does not say and nobody said either, so that the card's reader may doubt it."""
        options = self._options
        assumed = [f"{_HZ:g} Hz"] if options.control_hz is None else []
        assumed += [f"robot {' or '.join(options.robots)}"] if options.robots_are_assumed else []
        return f" Assumed, because nobody said: {', '.join(assumed)}." if assumed else ""

    def _action(self) -> Action:
        columns = describe(self._options.kind, tuple(self._statistics.values()))
        return Action(
            kind=columns.kind,
            names=columns.names,
            units=columns.units,
            frame=columns.frame,
            gripper_polarity=columns.gripper_polarity,
            horizon=1,
            control_hz=self._options.control_hz or _HZ,
            tensor="action",
            unnorm_keys=tuple(self._statistics),
            statistics=dict(self._statistics),
            unnorm_tensor="unnorm_index",
        )

    def _outputs(self) -> tuple[Output, ...]:
        count = (self._count,)
        return (
            Output(tensor="action", dtype="float32", shape=(1, self._count), atol=_ACTION_ATOL),
            Output(tensor="action_tokens", dtype="int64", shape=count, atol=0.0),
            Output(tensor="is_action_token", dtype="uint8", shape=count, atol=0.0),
            Output(tensor="token_logprob", dtype="float32", shape=count, atol=_NATS_ATOL),
            Output(tensor="token_entropy", dtype="float32", shape=count, atol=_NATS_ATOL),
        )

    def _variant(self) -> Variant:
        return Variant(name=VARIANT, precision="fp32", runner=RUNNER.stem, files=GRAPHS, parameters=self.decode_parameters())

    def decode_parameters(self) -> dict[str, str]:
        """What every runner that decodes must know."""
        words = self._instruction
        return {
            "buckets": ",".join(map(str, words.buckets)),
            "pad_id": str(words.pad_id),
            "patches": str(self._network.config.patches),
        }

    @property
    def vocab_size(self) -> int:
        """How many ids the network has rows for."""
        return self._network.config.text.vocab_size

    def examples(self) -> dict[str, Tensor]:
        """64 pairs of eight pictures and eight instructions, over all un-normalisation keys."""
        return frozen_examples(
            self._options.checkpoint, camera=self._camera, instruction=self._instruction, keys=len(self._statistics)
        )

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """One request at a time, without padding, in float32: action, tokens, is_action_token, log-probability, entropy."""
        network, act = self._float32(), self._act()
        rows = zip(inputs[self._camera.tensor], inputs[self._instruction.tensor], strict=True)
        found = [generate(network, image, ids[ids != self._instruction.pad_id], count=self._count) for image, ids in rows]
        tokens = torch.stack([one.tokens for one in found])
        action, is_action = act(tokens, inputs["unnorm_index"])
        logprobs, entropies = torch.stack([one.logprobs for one in found]), torch.stack([one.entropies for one in found])
        return action, tokens, is_action, logprobs, entropies

    def graphs(self) -> tuple[Graph, ...]:
        """Prompt, continue, act: what `openvla_decode.py` runs."""
        return self.graphs_in(torch.float32)

    def graphs_in(self, dtype: torch.dtype) -> tuple[Graph, ...]:
        """The same with weights and activations of another type; the weights become that type and stay it until asked again."""
        network = self._network.to(dtype)
        return (_prompt_graph(network, self._camera, self._instruction), _continue_graph(network), _act_graph(self._act()))

    def runner(self) -> Path:
        """The runner beside Triton's shell."""
        return RUNNER

    def files(self) -> dict[str, Path | bytes]:
        """The tokenizer."""
        return {TOKENIZER_FILE: self._options.checkpoint / TOKENIZER_FILE}

    def evaluation_file(self) -> None:
        """There is no environment for someone else's checkpoint."""

    def _act(self) -> Act:
        config = self._network.config
        values = torch.from_numpy(table(self._statistics, n_action_bins=config.n_action_bins))
        return Act(values, action_vocab=config.action_vocab, n_action_bins=config.n_action_bins)

    def _float32(self) -> OpenVla:
        return self._network.to(torch.float32)


def open_checkpoint(options: CheckpointOptions) -> OpenVlaPolicy:
    """Reads and checks everything but runs nothing. Raises CheckpointError."""
    folder = options.checkpoint
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder; give the folder of a downloaded checkpoint")
    config = read_config(folder)
    statistics = read_statistics(folder, options.unnorm_keys)
    instruction = read_instruction(folder, config, tensor="instruction_ids")
    network = meta_network(config)
    load(network, folder)
    return OpenVlaPolicy(options, network, instruction, statistics)


def _camera(config: OpenVlaConfig, options: CheckpointOptions) -> Camera:
    return Camera(
        name="primary",
        is_required=True,
        width=config.image_size,
        height=config.image_size,
        resize=ResizeRule.LETTERBOX if config.pictures.letterbox_fill else ResizeRule.NAIVE,
        fill=config.pictures.letterbox_fill,
        crop_area=options.crop_area,
        rotate_180=options.rotate_180,
        tensor="image",
    )


def _prompt_graph(network: OpenVla, camera: Camera, instruction: Instruction) -> Graph:
    ids = torch.full((2, instruction.buckets[0]), instruction.pad_id, dtype=torch.int64)
    ids[:, 0], ids[0, 1:] = 1, 2
    return Graph(
        file=GRAPHS[0],
        module=Prompt(network, pad_id=instruction.pad_id),
        examples={"image": torch.zeros(2, camera.height, camera.width, 3, dtype=torch.uint8), "instruction_ids": ids},
        outputs=("embeddings", "is_real"),
        dynamic={"instruction_ids": {1: "words"}},
    )


def _continue_graph(network: OpenVla) -> Graph:
    text, dtype, new, earlier = network.config.text, network.language_model.lm_head.weight.dtype, 3, 5
    return Graph(
        file=GRAPHS[1],
        module=Continue(network),
        examples={
            "embeddings": torch.zeros(2, new, text.hidden_size, dtype=dtype),
            "is_real": torch.ones(2, new, dtype=torch.bool),
            "start": torch.zeros(2, dtype=torch.int64),
            "past": torch.zeros(2, text.num_hidden_layers, 2, text.num_key_value_heads, earlier, text.head_dim, dtype=dtype),
            "is_real_past": torch.ones(2, earlier, dtype=torch.bool),
        },
        outputs=("token", "logprob", "entropy", "embedding", "present"),
        dynamic={"embeddings": {1: "new"}, "is_real": {1: "new"}, "past": {4: "earlier"}, "is_real_past": {1: "earlier"}},
    )


def _act_graph(act: Act) -> Graph:
    tokens = torch.full((2, act.table.shape[1]), act.action_vocab - 1, dtype=torch.int64)
    return Graph(
        file=GRAPHS[2],
        module=act,
        examples={"tokens": tokens, "unnorm_index": torch.zeros(2, 1, dtype=torch.int64)},
        outputs=("action", "is_action_token"),
    )
