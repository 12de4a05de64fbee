"""Which guard is in force: a manifest's facts in the guard's words, layers on top, the same guard for the same layers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from control_plane.errors import ApiError
from control_plane.guarding.fields import LimitFields, RequestSafety, Settings
from control_plane.guarding.guards import GuardsInForce, PolicyUnguardedError, action_space_of
from control_plane.identity.principal import CustomerSafety
from control_plane.policies.catalogue import Catalogue, ServedPolicy, load_catalogue
from export.contract.facts import Action
from export.contract.statistics import Bounds, MeanStd
from safety.profile import Preset
from tests.control_plane.fakes import ROOT

CATALOGUE = load_catalogue(ROOT / "model_repository", default="tabletop")
TABLETOP: ServedPolicy = CATALOGUE.policies["tabletop"]
ACTION = TABLETOP.manifest.action
CUSTOMER = UUID(int=7)
SLOW = CustomerSafety(version=3, document='{"robots": {"franka_panda": {"linear_speed_m_per_s": 0.1}}}', preset=None)

REVIEWED = """
format = 1
policy = "{policy}"
robot_type = "franka_panda"
reviewed_by = "Ada"
reviewed_on = "2026-11-23"
[chunk_consistency]
value = 0.3
alpha = 0.05
rollouts = 100
"""


@pytest.fixture(scope="module")
def guards() -> GuardsInForce:
    deployment = Settings(limits=LimitFields(linear_speed_m_per_s=0.2))
    return GuardsInForce(catalogue=CATALOGUE, preset=Preset.REDUCED, deployment=deployment)


def chosen(guards: GuardsInForce, **how: Any) -> Any:
    layers = {"stored": None, "asked": None, "customer_id": CUSTOMER} | how
    return guards.of(TABLETOP, "franka_panda", **layers)


def test_each_layer_is_on_top_of_the_one_before(guards: GuardsInForce) -> None:
    asked = RequestSafety(linear_speed_m_per_s=0.05, required_rules=["D2"])
    found = {
        "deployment": chosen(guards),
        "customer": chosen(guards, stored=SLOW),
        "request": chosen(guards, stored=SLOW, asked=asked),
    }
    speeds = {name: one.policy.limits.linear_speed_m_per_s for name, one in found.items()}
    assert speeds == {"deployment": 0.2, "customer": 0.1, "request": 0.05}
    assert found["request"].policy.layers == ("customer@3", "deployment", "request")
    assert found["request"].policy.required_rules == {"D2.workspace"}


def test_the_same_layers_have_the_same_guard_and_another_version_has_another(guards: GuardsInForce) -> None:
    asked = RequestSafety(linear_speed_m_per_s=0.05)
    assert chosen(guards, stored=SLOW) is chosen(guards, stored=SLOW)
    assert chosen(guards, asked=asked) is chosen(guards, asked=RequestSafety(linear_speed_m_per_s=0.05))
    assert chosen(guards, asked=asked) is not chosen(guards, stored=SLOW, asked=asked)
    later = CustomerSafety(version=4, document="{}", preset=None)
    assert chosen(guards, stored=later).policy.limits.linear_speed_m_per_s == 0.2
    assert chosen(guards, stored=SLOW, customer_id=UUID(int=8)) is not chosen(guards, stored=SLOW)


def test_what_only_tells_something_is_no_layer(guards: GuardsInForce) -> None:
    assert chosen(guards, asked=RequestSafety(control_hz=10)) is chosen(guards)


def test_a_stored_limit_that_became_looser_than_the_deployments_gives_way(guards: GuardsInForce) -> None:
    once_tight = CustomerSafety(version=1, document='{"limits": {"linear_speed_m_per_s": 0.24}}', preset=None)
    assert chosen(guards, stored=once_tight).policy.limits.linear_speed_m_per_s == 0.2


def test_a_request_that_loosens_its_own_account_is_refused(guards: GuardsInForce) -> None:
    with pytest.raises(ApiError) as caught:
        chosen(guards, stored=SLOW, asked=RequestSafety(linear_speed_m_per_s=0.15))
    assert (caught.value.kind.code, caught.value.param) == ("invalid_safety", "safety.linear_speed_m_per_s")


def test_reviewed_thresholds_count_for_the_policy_and_robot_they_name(guards: GuardsInForce) -> None:
    for version, policy, is_there in ((11, "tabletop", True), (12, "another", False)):
        document = json.dumps({"calibrations": [REVIEWED.format(policy=policy)]})
        found = chosen(guards, stored=CustomerSafety(version=version, document=document, preset=None)).policy.thresholds
        assert (found is not None) is is_there


def test_the_manifests_frame_and_training_range_are_told() -> None:
    assert action_space_of(ACTION).frame == "robot_base"
    assert action_space_of(ACTION).training_range is None
    low, high = (-1.0,) * 7, (1.0,) * 7
    bounds = Bounds(scheme="bounds_q99", low=low, high=high, mask=(True,) * 7, epsilon=0.0)
    extremes = Bounds(scheme="bounds", low=low, high=high, mask=(True,) * 7, epsilon=0.0)
    spread = MeanStd(scheme="mean_std", mean=low, std=high)
    found = [action_space_of(_with(statistics)).training_range for statistics in ([bounds], [extremes], [spread], [bounds] * 2)]
    assert found == [((-1.0, 1.0),) * 7, None, None, None]


def _with(statistics: Sequence[Bounds | MeanStd]) -> Action:
    names = ("kind", "names", "units", "control_hz", "gripper_polarity", "frame")
    told = {name: getattr(ACTION, name) for name in names}
    return cast(Action, SimpleNamespace(**told, statistics=dict(enumerate(statistics))))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"robots": ("so100",)}, "no safety profile for robot 'so100'"),
        ({"action": ACTION.model_copy(update={"units": ("0.05 m",) * 3 + ACTION.units[3:]})}, "units"),
        ({"robots": ("aloha",)}, "on aloha"),
    ],
)
def test_a_policy_that_cannot_be_guarded_is_named_with_what_to_do(changes: dict[str, Any], why: str) -> None:
    policy = replace(TABLETOP, manifest=TABLETOP.manifest.model_copy(update=changes))
    catalogue = Catalogue([policy], default="tabletop")
    with pytest.raises(PolicyUnguardedError, match=f"policy 'tabletop' cannot be guarded: .*{why}.*take its folder away"):
        GuardsInForce(catalogue=catalogue, preset=Preset.REDUCED)
