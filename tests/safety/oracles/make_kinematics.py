"""Freezes pinocchio's forward kinematics: `python -m tests.safety.oracles.make_kinematics` where `pin` (4.1.0) is installed.

Writes kinematics.npz: per robot (1000, 3) positions of the end effector in m, for the joints that `joints.configurations` draws.
"""

from pathlib import Path

import numpy as np
import pinocchio as pin  # type: ignore[import-not-found] # only where the answers are frozen

from safety.profile import load_profile
from tests.safety.oracles.joints import ARMS, Joint, configurations

FILE = Path(__file__).parent / "kinematics.npz"


def _placement(row: tuple[float, ...]) -> "pin.SE3":
    return pin.SE3(pin.rpy.rpyToMatrix(*row[3:]), np.array(row[:3], dtype=np.float64))


def _positions(joints: tuple[Joint, ...], q: np.ndarray) -> np.ndarray:
    model, parent = pin.Model(), 0
    for index, (origin, axis) in enumerate(joints[:-1]):
        parent = model.addJoint(parent, pin.JointModelRevoluteUnaligned(np.array(axis)), _placement(origin), f"j{index}")
    tool = model.addFrame(pin.Frame("tool", parent, _placement(joints[-1][0]), pin.FrameType.OP_FRAME))
    data = model.createData()
    found = []
    for row in q:
        pin.framesForwardKinematics(model, data, row)
        found.append(data.oMf[tool].translation.copy())
    return np.array(found)


def main() -> None:
    """Writes the file."""
    frozen = {}
    for robot, joints in ARMS.items():
        limits = load_profile(robot).joints
        q = configurations(np.array(limits.position_min_rad.values), np.array(limits.position_max_rad.values))
        frozen[robot] = _positions(joints, q)
    np.savez_compressed(FILE, **frozen)  # type: ignore[arg-type] # numpy's stub takes any keyword for a flag


if __name__ == "__main__":
    main()
