"""The export of everything held about a customer: their rows and objects, nobody else's, and no secret."""

import gzip
import json
from pathlib import Path
from uuid import UUID

import pytest

from control_plane.capture.export import INDEX, export
from control_plane.errors import ApiError
from control_plane.keys.verbs import Stores
from tests.control_plane.capture.conftest import House
from tests.control_plane.keys.conftest import a_customer


async def test_it_has_every_row_and_object_of_the_customer_and_no_secret(house: House, tmp_path: Path) -> None:
    other = await a_customer(Stores(engine=house.engine, redis=house.redis, pepper=b"p" * 32))
    house.write(house.sample(0), house.sample(1))
    await house.shipper().step()
    done = await export(house.engine, house.objects, house.customer_id, tmp_path / "out")
    assert {"customer_accounts", "api_keys", "audit_log", "data_consents", "captured_episodes"} <= set(done.rows)
    assert done.objects == 2
    rows = {
        path.name.removesuffix(".jsonl.gz"): [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        for path in (tmp_path / "out").glob("*.gz")
    }
    assert {name: len(found) for name, found in rows.items()} == dict(done.rows)
    assert "digest" not in rows["api_keys"][0]
    assert rows["data_consents"][0]["given_by"] == "Dana"
    everything = json.dumps(rows)
    assert other.customer.id.hex not in everything.replace("-", "")
    exported = [path.read_bytes() for path in (tmp_path / "out" / "objects").rglob("*.tar")]
    assert len(exported) == 1
    assert json.loads((tmp_path / "out" / INDEX).read_text())["objects"] == 2


async def test_a_folder_that_is_there_and_a_customer_that_is_not_are_refused(house: House, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="is there already"):
        await export(house.engine, None, house.customer_id, tmp_path)
    with pytest.raises(ApiError, match="there is no customer"):
        await export(house.engine, None, UUID(int=1), tmp_path / "new")
    assert not (tmp_path / "new").exists()
