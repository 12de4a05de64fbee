"""The names and numbers on the policy's border: camera, state, action chunk. Read by simulator, trainer and exporter alike.

It knows no network and no physics; `export/policies/tabletop.py` puts these facts into the manifest.
"""

from export.contract.facts import Action, ActionKind, Camera, GripperPolarity, ResizeRule, State

POLICY = "tabletop"
HORIZON = 8
CONTROL_HZ = 10.0

CAMERA = Camera(name="front", is_required=True, width=128, height=128, resize=ResizeRule.NAIVE, tensor="image")
STATE = State(
    names=(*(f"joint_{index}" for index in range(1, 8)), "finger_width"),
    units=("rad",) * 7 + ("m",),
    is_required=False,
    tensor="state",
    mask_tensor="state_mask",
)
ACTION = Action(
    kind=ActionKind.EE_DELTA_ROTVEC,
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "fraction"),
    frame="robot_base",
    gripper_polarity=GripperPolarity.ONE_IS_CLOSED,
    horizon=HORIZON,
    control_hz=CONTROL_HZ,
    tensor="action",
    unnorm_keys=(POLICY,),
)
