"""The bucket: what set-up gives it, what the check finds wrong, and that nothing is served or readable without credentials."""

import re
from http.client import HTTPConnection
from pathlib import Path

import pytest
from minio import Minio
from minio.helpers import md5sum_hash
from minio.sseconfig import Rule, SSEConfig

from control_plane.capture.storage import StorageError, check, set_up
from control_plane.object_place import place_of
from control_plane.objects import create_objects
from deploy.embedded.seaweedfs import Weed
from tests.conftest import free_port


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def findings(url: str) -> dict[str, tuple[bool, str]]:
    return {finding.what: (finding.is_good, finding.detail) for finding in check(url)}


def test_a_bucket_that_was_set_up_is_good_in_everything(objects_url: str) -> None:
    set_up(objects_url)
    set_up(objects_url)
    found = findings(objects_url)
    assert {what: detail for what, (is_good, detail) in found.items() if not is_good} == {}
    assert len(found) == 6


THEIRS = (
    "<Rule><ID>theirs</ID><Filter><And><Prefix>logs/</Prefix><ObjectSizeGreaterThan>500</ObjectSizeGreaterThan></And></Filter>"
    "<Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
)
OF_OLD = (
    "<Rule><ID>vlaapi-of-old</ID><Status>Enabled</Status><Filter><Prefix/></Filter><Expiration><Days>1</Days></Expiration></Rule>"
)
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def test_rules_and_encryption_of_somebody_else_stay_as_they_are(objects_url: str) -> None:
    """Also what the SDK has no field for: a rule without half of its filter would remove other objects."""
    place = place_of(objects_url)
    client = Minio(place.endpoint, access_key=place.access_key, secret_key=place.secret_key, secure=False)
    client.make_bucket(place.bucket)
    client.set_bucket_encryption(place.bucket, SSEConfig(Rule.new_sse_kms_rule()))
    body = f'<LifecycleConfiguration xmlns="{NAMESPACE}">{THEIRS}{OF_OLD}</LifecycleConfiguration>'.encode()
    client._execute(
        "PUT", place.bucket, body=body, headers={"Content-MD5": str(md5sum_hash(body))}, query_params={"lifecycle": ""}
    )
    for _ in range(2):
        set_up(objects_url)
        there = client._execute("GET", place.bucket, query_params={"lifecycle": ""}).data.decode()
        assert THEIRS in there
        ids = re.findall("<ID>(.*?)</ID>", there)
        assert sorted(ids) == ["theirs", "vlaapi-broken-off-uploads", "vlaapi-debug-7", "vlaapi-train-365"]
        encryption = client.get_bucket_encryption(place.bucket)
        assert encryption is not None
        assert encryption.rule.sse_algorithm == "aws:kms"


def test_without_a_bucket_the_check_says_what_makes_it(objects_url: str) -> None:
    is_good, detail = findings(objects_url)["reachable, credentials good"]
    assert not is_good
    assert "storage set-up" in detail


async def test_a_bucket_that_made_itself_lacks_lifecycle_and_the_check_says_so(objects_url: str) -> None:
    objects = create_objects(objects_url)
    await objects.put("x", b"x")
    await objects.aclose()
    found = findings(objects_url)
    assert found["reachable, credentials good"][0]
    assert not found["what is over is removed (lifecycle)"][0]
    assert "storage set-up" in found["what is over is removed (lifecycle)"][1]


def test_wrong_credentials_and_a_store_that_is_gone_are_findings_and_no_exceptions(objects_url: str) -> None:
    wrong = findings(objects_url.replace("vlaapi:", "vlaapi:wrong", 1))
    gone = findings(f"http://a:b@127.0.0.1:{free_port().number}/bucket")
    for found in (wrong, gone):
        assert not any(is_good for what, (is_good, _) in found.items() if "clock" not in what and "nothing without" not in what)
    with pytest.raises(StorageError):
        set_up(f"http://a:b@127.0.0.1:{free_port().number}/bucket")


async def test_an_encrypted_object_is_nowhere_on_disk_in_the_clear(objects_url: str, weed: Weed) -> None:
    set_up(objects_url)
    secret = b"a robot saw this, and nobody else may: " * 100
    objects = create_objects(objects_url)
    await objects.put("raw/v1/secret", secret)
    assert await objects.get("raw/v1/secret") == secret
    await objects.aclose()
    data = contents(weed.data)
    assert not any(secret[:64] in found for found in data)
    assert any(data)


async def test_the_ports_behind_the_store_serve_no_object_to_strangers(objects_url: str, weed: Weed) -> None:
    set_up(objects_url)
    objects = create_objects(objects_url)
    await objects.put("raw/v1/secret", b"what a robot saw")
    await objects.aclose()
    bucket = objects_url.rpartition("/")[2]
    for flag in ("filer.port", "master.port", "volume.port", "s3.port", "admin.port"):
        for path in (f"/buckets/{bucket}/", f"/{bucket}/", f"/{bucket}?list-type=2", f"/buckets/{bucket}/raw/v1/secret"):
            connection = HTTPConnection("127.0.0.1", weed.ports[flag].number, timeout=5)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
            except OSError:
                continue  # it is not even open
            finally:
                connection.close()
            assert 400 <= answer.status < 500, (flag, path, answer.status)
            assert b"robot saw" not in body
