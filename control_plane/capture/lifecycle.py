"""The bucket's lifecycle: our rules beside whatever rules it has. Ours are known by their ids; the others are not touched.

The configuration is changed as XML, because the SDK's own values drop what they do not know: a foreign rule that lost half of its
filter would remove objects that it was never meant for. Raises what the SDK raises.
"""

from xml.etree import ElementTree as ET

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.helpers import md5sum_hash
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, LifecycleConfig, Rule
from minio.xml import getbytes

from control_plane.capture.part import ROOT
from control_plane.identity.data_policy import KEEP_DAYS, DataPolicy

OURS = "vlaapi-"
_GRACE_DAYS = 2  # behind the sweeper, which runs hourly
_QUERY: dict[str, str | list[str] | tuple[str]] = {"lifecycle": ""}


def rules() -> list[Rule]:
    """One per class of retention, and one for uploads that were broken off."""
    expiring = [
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=f"{ROOT}policy={policy.value}/keep={KEEP_DAYS[policy]}/"),
            rule_id=f"{OURS}{policy.value}-{KEEP_DAYS[policy]}",
            expiration=Expiration(days=KEEP_DAYS[policy] + _GRACE_DAYS),
        )
        for policy in DataPolicy
        if policy.keeps_pictures
    ]
    broken_off = Rule(
        ENABLED,
        rule_filter=Filter(prefix=""),
        rule_id=f"{OURS}broken-off-uploads",
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
    )
    return [*expiring, broken_off]


def set_lifecycle(client: Minio, bucket: str) -> None:
    """Ours as they are today, instead of ours as they were."""
    wanted = LifecycleConfig(rules()).toxml(None)
    for rule in _there(client, bucket):
        if not _id_of(rule).startswith(OURS):
            wanted.append(rule)
    body = getbytes(wanted)
    client._execute("PUT", bucket, body=body, headers={"Content-MD5": str(md5sum_hash(body))}, query_params=_QUERY)


def missing_rules(client: Minio, bucket: str) -> tuple[list[str], int]:
    """The ids of ours that the bucket lacks; how many rules it has."""
    there = {_id_of(rule) for rule in _there(client, bucket)}
    return sorted({str(rule.rule_id) for rule in rules()} - there), len(there)


def _there(client: Minio, bucket: str) -> list[ET.Element]:
    """Every rule, without namespaces, as the SDK writes them."""
    try:
        answer = client._execute("GET", bucket, query_params=_QUERY)
    except S3Error as error:
        if error.code == "NoSuchLifecycleConfiguration":
            return []
        raise
    root = ET.fromstring(answer.data)  # noqa: S314 -- the operator's own store, asked over its credentials
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root.findall("Rule")


def _id_of(rule: ET.Element) -> str:
    return rule.findtext("ID") or ""
