"""The ids of the catalogue's rules, and which of them a layer may switch off. Knows nothing else about them."""

from typing import Final

A1: Final = "A1.shape_dtype"
A2: Final = "A2.finite"
A3: Final = "A3.magnitude"
A4: Final = "A4.unit_suspect"
B1: Final = "B1.ee_linear_speed"
B2: Final = "B2.ee_angular_speed"
B3: Final = "B3.joint_step_speed"
B4: Final = "B4.gripper_range"
B5: Final = "B5.joint_position"
B6: Final = "B6.rotation_valid"
B7: Final = "B7.dim_step"
B8: Final = "B8.too_much_clamping"
C1: Final = "C1.joint_velocity"
C2: Final = "C2.joint_acceleration"
C3: Final = "C3.joint_jerk"
C4: Final = "C4.oscillation"
C5: Final = "C5.gripper_chatter"
C6: Final = "C6.saturation"
D0: Final = "D0.state_valid"
D1: Final = "D1.start_gap"
D2: Final = "D2.workspace"
D3: Final = "D3.joint_limit_predicted"
D4: Final = "D4.stopping_room"
D5: Final = "D5.singularity"
D6: Final = "D6.self_collision"
D7: Final = "D7.surface_clearance"
D8: Final = "D8.tracking_error"
E1: Final = "E1.seam"
E2: Final = "E2.chunk_consistency"
E3: Final = "E3.staleness"
E4: Final = "E4.observation_frozen"
E5: Final = "E5.sequence"
E6: Final = "E6.rate_mismatch"
F1: Final = "F1.token_entropy"
F2: Final = "F2.action_ood"
G1: Final = "G1.instruction_policy"
H1: Final = "H1.post_check"

ALL_RULES: Final = (
    *(A1, A2, A3, A4),
    *(B1, B2, B3, B4, B5, B6, B7, B8),
    *(C1, C2, C3, C4, C5, C6),
    *(D0, D1, D2, D3, D4, D5, D6, D7, D8),
    *(E1, E2, E3, E4, E5, E6),
    *(F1, F2, G1, H1),
)
# Rules that only warn or inform: without them no motion is returned that would otherwise be refused or changed.
MAY_BE_DISABLED: Final = frozenset({C2, C3, C4, C5, C6, D3, D5, E1, E2, E4, E6, F1, F2})
# What a customer may turn from a warning into a refusal.
CAN_WARN: Final = MAY_BE_DISABLED - {C3} | {D6, D7, D8, E3}


def full_name(name: str) -> str | None:
    """The rule's id, from itself or from its letter and number ("D2"); None when there is no such rule."""
    return next((rule for rule in ALL_RULES if name in (rule, rule.partition(".")[0])), None)
