"""The real Triton 2.51.0 loads every kind of config that we write for its Python backend, and refuses what is for a newer one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client

from deploy.embedded.server import StartError
from deploy.embedded.triton import Triton, installation_in, triton
from export.parity import Arrays
from export.triton_config.config import TritonConfig
from export.triton_config.config_file import ConfigFile
from export.triton_config.server_version import EMBEDDED, ServerVersion
from export.triton_config.warmup import warmup_files
from tests.conftest import ENVIRONMENT, free_port, running
from tests.export.golden_configs import ACTION, NEWEST, python_cpu, python_priorities

# Answers zeros of the promised shape, and notes what it was asked: the batch sizes and the sum of the first picture.
ECHO = f"""
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.seen = args["model_repository"] + "/seen.jsonl"

    def execute(self, requests):
        images = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        with open(self.seen, "a") as file:
            file.write(json.dumps([sum(len(image) for image in images), int(images[0][0].sum(dtype=np.int64))]) + "\\n")
        answers = [np.zeros((len(image), *{ACTION.shape}), dtype=np.float32) for image in images]
        return [pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("action", answer)]) for answer in answers]
"""
CONFIGS = [python_cpu("python_cpu"), python_priorities("python_priorities")]
EXAMPLE: Arrays = {"image": np.full((1, 224, 224, 3), 7, dtype=np.uint8), "input_ids": np.ones((1, 64), dtype=np.int64)}


def _write(repository: Path, config: TritonConfig, server: ServerVersion) -> None:
    folder = repository / config.name
    for version in config.versions:
        (folder / str(version)).mkdir(parents=True)
        (folder / str(version) / "model.py").write_text(ECHO)
    (folder / "warmup").mkdir()
    for path, data in warmup_files(config, EXAMPLE).items():
        (folder / path).write_bytes(data)
    (folder / "config.pbtxt").write_text(ConfigFile(config=config, server=server).text())


def _plan(folder: Path, repository: Path, venv: Path) -> Triton:
    return Triton(
        installation=installation_in(venv),
        repository=repository,
        expected={name.name: {ACTION.name: ACTION.shape} for name in repository.iterdir()},
        scratch=folder / "scratch",
        links=folder / "links",
        grpc=free_port(),
        http=free_port(),
        metrics=free_port(),
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("configs") / "repository"
    for config in CONFIGS:
        _write(repository, config, EMBEDDED)
    return repository


@pytest.fixture(scope="module")
def served(repository: Path, triton_venv: Path) -> Iterator[Triton]:
    plan = _plan(repository.parent, repository, triton_venv)
    with running(triton(plan, environment=ENVIRONMENT), log=repository.parent / "triton.log"):
        yield plan


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_what_triton_understood_is_what_was_written(served: Triton, config: TritonConfig) -> None:
    with client.InferenceServerClient(served.url) as triton_client:
        found = triton_client.get_model_config(config.name).config
    meant = ConfigFile(config=config).message()
    if not meant.dynamic_batching.preferred_batch_size:  # Triton prefers full batches where nothing else is said
        assert list(found.dynamic_batching.preferred_batch_size) == [config.max_batch_size]
        found.dynamic_batching.ClearField("preferred_batch_size")
    for field in ("dynamic_batching", "version_policy", "model_warmup", "metric_tags", "max_batch_size", "parameters"):
        assert getattr(found, field) == getattr(meant, field), field


@pytest.mark.parametrize("version", ["3", "4"])
def test_every_named_version_is_served(served: Triton, version: str) -> None:
    with client.InferenceServerClient(served.url) as triton_client:
        assert triton_client.is_model_ready("python_priorities", version)


def test_the_policy_was_warmed_up_with_zeros_and_with_the_real_example(served: Triton, repository: Path) -> None:
    def seen(name: str) -> list[Any]:
        return [json.loads(line) for line in (repository / name / "seen.jsonl").read_text().splitlines()]

    assert [4, 0] in seen("python_cpu")
    assert [2, int(np.sum(EXAMPLE["image"], dtype=np.int64))] in seen("python_priorities")


def test_a_config_for_a_newer_triton_is_refused_by_this_one(tmp_path: Path, triton_venv: Path) -> None:
    _write(tmp_path / "repository", python_cpu("python_cpu"), NEWEST)
    plan = _plan(tmp_path, tmp_path / "repository", triton_venv)
    log = tmp_path / "triton.log"
    with pytest.raises(StartError, match="ended while starting"), running(triton(plan, environment=ENVIRONMENT), log=log):
        pytest.fail("it started")
    assert "model_metrics" in log.read_text()
