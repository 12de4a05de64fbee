"""Freezes MuJoCo's capsule distances of the Panda: `python -m tests.safety.oracles.make_collisions` in the export environment.

Writes collisions.npz: for 10,000 configurations the smallest distance in m over the profile's pairs, negative where they overlap.
"""

from pathlib import Path

import mujoco
import numpy as np

from safety.profile import load_profile
from tests.safety.oracles.joints import ARMS, configurations

FILE = Path(__file__).parent / "collisions.npz"
COUNT = 10_000
FAR_M = 2.0


def _model() -> "mujoco.MjModel":
    geometry = load_profile("franka_panda").geometry
    assert geometry is not None
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.compiler.eulerseq = "XYZ"  # fixed axes: roll, pitch, yaw
    body = spec.worldbody
    bodies = [body]
    for index, (origin, axis) in enumerate(ARMS["franka_panda"]):
        body = body.add_body(pos=list(origin[:3]), euler=list(origin[3:]))
        if index < len(ARMS["franka_panda"]) - 1:
            body.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, axis=list(axis))
        body.mass, body.inertia, body.explicitinertial = 1.0, [1.0, 1.0, 1.0], True
        bodies.append(body)
    for capsule in geometry.capsules:
        bodies[capsule.link].add_geom(
            name=capsule.name,
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[*capsule.start_m, *capsule.end_m],
            size=[capsule.radius_m, 0, 0],
        )
    return spec.compile()


def main() -> None:
    """Writes the file."""
    profile, model = load_profile("franka_panda"), _model()
    assert profile.geometry is not None
    data = mujoco.MjData(model)
    limits = profile.joints
    q = configurations(np.array(limits.position_min_rad.values), np.array(limits.position_max_rad.values), COUNT)
    pairs = [(model.geom(a).id, model.geom(b).id) for a, b in profile.geometry.pairs]
    smallest = np.empty(COUNT)
    for row, joints in enumerate(q):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        smallest[row] = min(mujoco.mj_geomDistance(model, data, a, b, FAR_M, None) for a, b in pairs)
    np.savez_compressed(FILE, smallest=smallest.astype(np.float32))


if __name__ == "__main__":
    main()
