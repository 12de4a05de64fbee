"""Training lowers its loss on a made-up task where words decide the motion, goes on where it stopped, and writes what it did."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.contract.tokenize import InstructionTokenizer
from tabletop import checkpoint
from tabletop.batches import Batches, Drawing, looked_at
from tabletop.instructions import SPEC, vocabulary, write_tokenizer
from tabletop.network import TabletopPolicy
from tabletop.shards import Demonstrations
from tabletop.train import LOG_FILE, Place, Plan, Unfinished, loss_of, train

pytestmark = pytest.mark.export
PLAN = Plan(steps=40, report_every=20, learning_rate=3e-3, drawing=Drawing(batch=8))


def _made_up(count: int = 32) -> Demonstrations:
    random = np.random.default_rng(0)
    tasks = random.integers(0, 3, count)
    chunks = np.zeros((count, 8, 7), dtype=np.float32)
    chunks[:, :, 0] = (tasks[:, None] - 1) * 0.02
    chunks[:, :, 6] = (tasks == 2)[:, None]
    return Demonstrations(
        images=random.integers(0, 256, (count, 128, 128, 3), dtype=np.uint8),
        states=random.normal(size=(count, 8)).astype(np.float32),
        tasks=tasks,
        chunks=chunks,
        truth=random.normal(size=(count, 8)).astype(np.float32),
        episodes=np.array([count], dtype=np.int64),
    )


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole = Place(out=tmp_path / "whole", state=tmp_path / "whole.state", about={"demonstrations": {"episodes": 1}})
    log = train([_made_up()], whole, PLAN, lambda _: None)
    assert [row["step"] for row in log["losses"]] == [20, 40]
    assert log["losses"][1]["motion"] < 0.8 * log["losses"][0]["motion"]
    assert json.loads((whole.out / LOG_FILE).read_text()) == log
    assert not whole.state.exists()

    stopped = Place(out=tmp_path / "stopped", state=tmp_path / "stopped.state")
    with pytest.raises(KeyboardInterrupt):
        train([_made_up()], stopped, PLAN, _stops_at(40))
    train([_made_up()], stopped, PLAN, lambda _: None)
    expected, found = (checkpoint.load(folder).state_dict() for folder in (whole.out, stopped.out))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def _stops_at(step: int) -> Callable[[dict[str, float]], None]:
    def report(now: dict[str, float]) -> None:
        if now["step"] == step:
            raise KeyboardInterrupt

    return report


def test_an_unfinished_run_of_another_plan_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    place = Place(out=tmp_path / "out", state=tmp_path / "run.state")
    with pytest.raises(KeyboardInterrupt):
        train([_made_up()], place, replace(PLAN, report_every=1), _stops_at(2))
    with pytest.raises(Unfinished, match="unfinished run of another plan"):
        train([_made_up()], place, replace(PLAN, report_every=1, seed=2), lambda _: None)


def test_beginning_with_other_weights_keeps_what_each_known_word_meant() -> None:
    shipped = checkpoint.load()
    network = TabletopPolicy(words=len(vocabulary()))
    checkpoint.start_from(network, checkpoint.FOLDER)
    known = json.loads((checkpoint.FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
    for word, row in vocabulary().items():
        if word in known:
            assert torch.equal(network.text.words.weight[row], shipped.text.words.weight[known[word]])
    assert torch.equal(network.stem[0].weight, shipped.stem[0].weight)


def test_the_first_keypoints_learn_where_to_look() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    batch = {name: value[:4] for name, value in _batch(_made_up()).items()}
    network = TabletopPolicy(words=len(vocabulary()))
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    looked = list[float]()
    for _ in range(12):
        optimiser.zero_grad()
        loss = loss_of(network, batch)["look"]
        loss.backward()
        optimiser.step()
        looked.append(float(loss.detach()))
    assert looked[-1] < 0.8 * looked[0]
    nobody = loss_of(network, batch | {"shares": torch.zeros_like(batch["shares"])})
    assert float(nobody["look"].detach()) == 0.0


def _batch(shard: Demonstrations) -> dict[str, torch.Tensor]:
    """Its frames in order, each with a goal somewhere on the table."""
    count = len(shard.tasks)
    at = np.random.default_rng(3).uniform((0.42, -0.12, 0.05, 0.0), (0.56, 0.12, 0.2, 0.08), (count, 4))
    truth = np.concatenate([at, np.zeros((count, 4))], axis=1).astype(np.float32)
    cells, shares = looked_at(truth)
    return {
        "image": torch.from_numpy(shard.images).permute(0, 3, 1, 2).float() / 255,
        "ids": torch.ones(count, 24, dtype=torch.int64),
        "state": torch.from_numpy(shard.states),
        "mask": torch.ones(count, 1),
        "chunk": torch.from_numpy(shard.chunks),
        "truth": torch.from_numpy(truth),
        "cells": torch.from_numpy(cells),
        "shares": torch.from_numpy(shares),
    }


def test_batches_go_on_from_where_they_were(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = InstructionTokenizer(tmp_path, SPEC)
    batches = Batches([_made_up()], tokenizer, Drawing(batch=4), seed=3)
    batches.draw()
    state = batches.state
    expected = batches.draw()
    again = Batches([_made_up()], tokenizer, Drawing(batch=4), seed=9)
    again.go_on_from(state)
    found = again.draw()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
