"""The arms once more, joint by joint, from other publications than the profiles' tables; for the two oracle scripts only.

Each joint: origin x, y, z (m), roll, pitch, yaw (rad) and its axis. The last row is the fixed way to the end effector.
"""

import math

import numpy as np
from numpy.typing import NDArray

Joint = tuple[tuple[float, ...], tuple[float, float, float]]
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
H, PI = math.pi / 2, math.pi
CONFIGURATIONS = 1000

# panda.urdf of example-robot-data 6.0.0 (from franka_ros).
PANDA: tuple[Joint, ...] = (
    ((0, 0, 0.333, 0, 0, 0), Z),
    ((0, 0, 0, -H, 0, 0), Z),
    ((0, -0.316, 0, H, 0, 0), Z),
    ((0.0825, 0, 0, H, 0, 0), Z),
    ((-0.0825, 0.384, 0, -H, 0, 0), Z),
    ((0, 0, 0, H, 0, 0), Z),
    ((0.088, 0, 0, H, 0, 0), Z),
    ((0, 0, 0.107, 0, 0, 0), Z),
)
# ros-industrial/universal_robot 6485dfa644, ur_description/config/ur5e/default_kinematics.yaml.
UR5E: tuple[Joint, ...] = (
    ((0, 0, 0.1625, 0, 0, 0), Z),
    ((0, 0, 0, 1.570796327, 0, 0), Z),
    ((-0.425, 0, 0, 0, 0, 0), Z),
    ((-0.3922, 0, 0.1333, 0, 0, 0), Z),
    ((0, -0.0997, -2.044881182297852e-11, 1.570796327, 0, 0), Z),
    ((0, 0.09959999999999999, -2.042830148012698e-11, 1.570796326589793, PI, PI), Z),
    ((0, 0, 0, 0, 0, 0), Z),
)
# xarm7.urdf of example-robot-data 6.0.0.
XARM7: tuple[Joint, ...] = (
    ((0, 0, 0.267, 0, 0, 0), Z),
    ((0, 0, 0, -1.5708, 0, 0), Z),
    ((0, -0.293, 0, 1.5708, 0, 0), Z),
    ((0.0525, 0, 0, 1.5708, 0, 0), Z),
    ((0.0775, -0.3425, 0, 1.5708, 0, 0), Z),
    ((0, 0, 0, 1.5708, 0, 0), Z),
    ((0.076, 0.097, 0, -1.5708, 0, 0), Z),
    ((0, 0, 0, 0, 0, 0), Z),
)
# interbotix_ros_manipulators 41746ab1ae, wx250s.urdf.xacro, to ee_gripper_link.
WX250S: tuple[Joint, ...] = (
    ((0, 0, 0.072, 0, 0, 0), Z),
    ((0, 0, 0.03865, 0, 0, 0), Y),
    ((0.04975, 0, 0.25, 0, 0, 0), Y),
    ((0.175, 0, 0, 0, 0, 0), X),
    ((0.075, 0, 0, 0, 0, 0), Y),
    ((0.065, 0, 0, 0, 0, 0), X),
    ((0.093575, 0, 0, 0, 0, 0), Z),
)
# interbotix_ros_manipulators 41746ab1ae, vx300s.urdf.xacro, to ee_gripper_link.
VX300S: tuple[Joint, ...] = (
    ((0, 0, 0.079, 0, 0, 0), Z),
    ((0, 0, 0.04805, 0, 0, 0), Y),
    ((0.05955, 0, 0.3, 0, 0, 0), Y),
    ((0.2, 0, 0, 0, 0, 0), X),
    ((0.1, 0, 0, 0, 0, 0), Y),
    ((0.069744, 0, 0, 0, 0, 0), X),
    ((0.1072, 0, 0, 0, 0, 0), Z),
)
# so101.urdf of example-robot-data 6.0.0, to gripper_frame_link.
SO101: tuple[Joint, ...] = (
    ((0.0388353, -8.97657e-09, 0.0624, 3.14159, 4.18253e-17, -3.14159), Z),
    ((-0.0303992, -0.0182778, -0.0542, -1.5708, -1.5708, 0), Z),
    ((-0.11257, -0.028, 1.73763e-16, -3.63608e-16, 8.74301e-16, 1.5708), Z),
    ((-0.1349, 0.0052, 3.62355e-17, 4.02456e-15, 8.67362e-16, -1.5708), Z),
    ((5.55112e-17, -0.0611, 0.0181, 1.5708, 0.0486795, 3.14159), Z),
    ((-0.0079, -0.000218121, -0.0981274, 0, 3.14159, 0), Z),
)
ARMS: dict[str, tuple[Joint, ...]] = {
    "franka_panda": PANDA,
    "franka_fr3": PANDA,
    "ur5e": UR5E,
    "xarm7": XARM7,
    "widowx_250s": WX250S,
    "viperx_300s": VX300S,
    "aloha": VX300S,
    "so101": SO101,
}


def configurations(low: NDArray[np.float64], high: NDArray[np.float64], count: int = CONFIGURATIONS) -> NDArray[np.float64]:
    """(count, n) joints, the same in every numpy: uniform over the robot's range."""
    return np.random.default_rng(20261123).uniform(low, high, (count, len(low)))
