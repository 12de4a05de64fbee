"""The two tables of a profile that are no plain numbers: kinematics and geometry. Reads them from TOML and names every fault.

Builds the chain and the body that the rules use. Knows no limit; `profile.py` calls the readers, `Guard` the builders.
"""

from safety.capsules import Body, Capsule, body_of
from safety.kinematics import Chain, KinematicsError, classic_dh, modified_dh, screws, urdf
from safety.robot import Convention, Geometry, KinematicTable

FARTHEST = 1e3  # metres or radians: an overflow in a product of frames would be no number, and compare as inside everything
_WIDTHS = {Convention.MODIFIED_DH: (4, 4), Convention.CLASSIC_DH: (4, 0), Convention.SCREWS: (6, 16), Convention.URDF: (6, 6)}


def chain_of(table: KinematicTable) -> Chain:
    """The chain of a checked table."""
    match table.convention:
        case Convention.MODIFIED_DH:
            return modified_dh(table.rows, table.tool)
        case Convention.CLASSIC_DH:
            return classic_dh(table.rows)
        case Convention.SCREWS:
            return screws(table.rows, [table.tool[row : row + 4] for row in range(0, 16, 4)])
    return urdf(table.rows, table.tool)


def body_from(geometry: Geometry) -> Body:
    """The arrays of a checked geometry."""
    return body_of(geometry.capsules, geometry.pairs)


def read_kinematics(table: object, joints: int, faults: list[str]) -> KinematicTable | None:
    """The table, or None with what is wrong added to `faults`."""
    if not isinstance(table, dict) or not table.keys() <= {"convention", "rows", "tool", "source"}:
        faults.append("kinematics: convention, rows, tool and source are needed")
        return None
    if table.get("convention") not in list(Convention):
        faults.append(f"kinematics.convention: one of {', '.join(Convention)} is needed")
        return None
    convention = Convention(table["convention"])
    width, tool_width = _WIDTHS[convention]
    rows, tool = table.get("rows"), table.get("tool", [])
    if not isinstance(rows, list) or len(rows) != joints or not all(_are_numbers(row, width) for row in rows):
        faults.append(f"kinematics.rows: {joints} rows of {width} numbers are needed")
        return None
    if not _are_numbers(tool, tool_width) or not _is_text(table.get("source")):
        faults.append(f"kinematics.tool: {tool_width} numbers and a source are needed")
        return None
    read = KinematicTable(
        convention=convention,
        rows=tuple(tuple(float(number) for number in row) for row in rows),
        tool=tuple(float(number) for number in tool),
        source=table["source"],
    )
    try:
        chain_of(read)
    except KinematicsError as error:
        faults.append(f"kinematics.rows: {error.fault}")
        return None
    return read


def read_geometry(table: object, joints: int, faults: list[str]) -> Geometry | None:
    """The capsules and pairs, or None with what is wrong added to `faults`."""
    if not isinstance(table, dict) or table.keys() != {"capsules", "pairs", "source"} or not _is_text(table["source"]):
        faults.append("geometry: exactly capsules, pairs and source are needed")
        return None
    rows, pairs = table["capsules"], table["pairs"]
    capsules = [capsule for row in rows if (capsule := _capsule(row, joints)) is not None] if isinstance(rows, list) else []
    names = [capsule.name for capsule in capsules]
    if not capsules or len(capsules) != len(rows) or len(set(names)) != len(names):
        faults.append("geometry.capsules: each needs an own name, link, start_m, end_m and radius_m")
        return None
    are_pairs = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not are_pairs or not pairs or not all(pair[0] != pair[1] and set(pair) <= set(names) for pair in pairs):
        faults.append("geometry.pairs: pairs of two capsules' names are needed")
        return None
    return Geometry(capsules=tuple(capsules), pairs=tuple((pair[0], pair[1]) for pair in pairs), source=table["source"])


def _capsule(row: object, joints: int) -> Capsule | None:
    if not isinstance(row, dict) or row.keys() != {"name", "link", "start_m", "end_m", "radius_m"}:
        return None
    link, radius = row["link"], row["radius_m"]
    if type(link) is not int or not 0 <= link <= joints + 1 or not _are_numbers([radius], 1) or radius <= 0:
        return None
    if not _is_text(row["name"]) or not _are_numbers(row["start_m"], 3) or not _are_numbers(row["end_m"], 3):
        return None
    start, end = ((float(x), float(y), float(z)) for x, y, z in (row["start_m"], row["end_m"]))
    return Capsule(name=row["name"], link=link, start_m=start, end_m=end, radius_m=float(radius))


def _are_numbers(row: object, width: int) -> bool:
    if not isinstance(row, list) or len(row) != width:
        return False
    return all(not isinstance(number, bool) and isinstance(number, int | float) and abs(number) <= FARTHEST for number in row)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""
