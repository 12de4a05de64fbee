"""`vlaapi export beside`: a published bundle as one more version of its policy, in a folder and a model of its own in Triton.

    model_repository/<policy>.<version>/    the same files under that name, hashed anew; its proofs stay

So an old version is kept before a new one is exported over it, or a new one comes from another repository. Knows no network.
"""

import shutil
from pathlib import Path

from export import bundle
from export.contract.manifest import MANIFEST_FILE, load_manifest
from export.place import PlaceRefused, put, refuse_foreign, workplace
from export.proof import load_proofs, save_proofs


def put_beside(source: Path, repository: Path) -> Path:
    """The new folder. Raises BundleChanged, ManifestError, PlaceRefused; then nothing has changed."""
    manifest = load_manifest(source)
    bundle.refuse_changes(source, manifest)
    place = repository / f"{manifest.policy}.{manifest.version}"
    if place.absolute() == source.absolute():
        raise PlaceRefused(f"{source} lies beside its policy already")
    refuse_foreign(place)
    with workplace(repository, place.name) as scratch:
        fresh = scratch / place.name
        shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("__pycache__"))
        config = fresh / bundle.CONFIG_FILE
        old = f'name: "{source.absolute().name}"\n'
        config.write_text(config.read_text().replace(old, f'name: "{place.name}"\n', 1))
        hashed = manifest.source.model_copy(update={"sha256": bundle.hashes(fresh)})
        whole = manifest.model_copy(update={"source": hashed})
        (fresh / MANIFEST_FILE).write_text(whole.model_dump_json(indent=2) + "\n")
        save_proofs(fresh, load_proofs(source))
        put(fresh, place)
    return place
