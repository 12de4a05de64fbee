"""`vlaapi data delete`, `data export` and `storage …` as an operator meets them: real stores, one line for every refusal."""

import asyncio
import json
from pathlib import Path
from uuid import UUID

import pytest

from control_plane.capture.part import ROOT
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import public_id
from control_plane.usage.request_id import public_form
from tests.conftest import free_port
from tests.control_plane.capture.conftest import House
from tests.control_plane.identity.conftest import PEPPER
from tests.control_plane.test_cli import Done, Environment, inherited, vlaapi

NOBODY = public_id("cus", UUID(int=5))
NO_STORE = "vlaapi: there is no object store: set VLA_OBJECT_STORE_URL.\n"


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, objects_url: str) -> Environment:
    """A shell in which everything is named."""
    names = {"VLA_DATABASE_URL": database_url, "VLA_REDIS_URL": clean_redis_url, "VLA_OBJECT_STORE_URL": objects_url}
    return inherited() | names | {"VLA_KEY_PEPPER": PEPPER.decode()}


def without_store(environment: Environment) -> Environment:
    return {name: value for name, value in environment.items() if name != "VLA_OBJECT_STORE_URL"}


def store_down(environment: Environment) -> Environment:
    return environment | {"VLA_OBJECT_STORE_URL": f"http://robots:a-secret@127.0.0.1:{free_port().number}/bucket"}


def wrong_credentials(environment: Environment) -> Environment:
    return environment | {"VLA_OBJECT_STORE_URL": environment["VLA_OBJECT_STORE_URL"].replace("vlaapi:", "vlaapi:wrong", 1)}


def redis_down(environment: Environment) -> Environment:
    return environment | {"VLA_REDIS_URL": f"redis://127.0.0.1:{free_port().number}/0"}


async def run(environment: Environment, *words: str) -> Done:
    """The command beside this test's loop."""
    return await asyncio.to_thread(vlaapi, environment, *words)


async def two_sessions(house: House) -> str:
    """Two frames of one, one of another. Returns the customer's id."""
    house.write(house.sample(0), house.sample(1), house.sample(2, session_id="ep-2"))
    await house.shipper().step()
    return public_id("cus", house.customer_id)


def test_a_store_is_set_up_and_found_good(environment: Environment) -> None:
    before = vlaapi(environment, "storage", "check")
    assert before.status == 1
    assert "FAIL  reachable, credentials good: there is no bucket" in before.out
    made = vlaapi(environment, "storage", "set-up")
    assert (made.status, made.out, made.err) == (0, "The bucket is there, encrypted, with lifecycle rules.\n", "")
    after = vlaapi(environment, "storage", "check")
    assert (after.status, after.err) == (0, "")
    assert [line.split()[0] for line in after.out.splitlines()] == ["ok"] * 6
    findings = json.loads(vlaapi(environment, "storage", "check", "--json").out)["findings"]
    assert [finding["is_good"] for finding in findings] == [True] * 6


def test_a_store_that_is_missing_away_or_refuses_is_said_in_one_line_without_a_secret(environment: Environment) -> None:
    for command in ("set-up", "check"):
        unset = vlaapi(without_store(environment), "storage", command)
        assert (unset.status, unset.out, unset.err) == (2, "", NO_STORE)
    down = vlaapi(store_down(environment), "storage", "set-up")
    assert (down.status, down.out, down.err.count("\n")) == (1, "", 1)
    assert "Connection refused" in down.err
    assert "a-secret" not in down.err
    refused = vlaapi(wrong_credentials(environment), "storage", "set-up")
    assert (refused.status, refused.err) == (1, "vlaapi: the object store is away or refuses (AccessDenied: Access denied)\n")
    for wrong in (store_down(environment), wrong_credentials(environment)):
        checked = vlaapi(wrong, "storage", "check")
        assert (checked.status, checked.err) == (1, "")
        assert checked.out.startswith("FAIL  reachable, credentials good: ")
        assert "a-secret" not in checked.out
    malformed = vlaapi(environment | {"VLA_OBJECT_STORE_URL": "http://robots:a-secret@127.0.0.1"}, "storage", "check")
    assert malformed.status == 2
    assert "VLA_OBJECT_STORE_URL" in malformed.err
    assert "a-secret" not in malformed.err


async def test_everything_of_a_customer_goes_and_the_proof_is_printed(house: House, environment: Environment) -> None:
    customer = await two_sessions(house)
    done = await run(environment, "data", "delete", "--customer", customer, "--yes", "--json")
    assert (done.status, done.err) == (0, "")
    proof = json.loads(done.out)
    assert (proof["episodes"], proof["objects"], proof["left"]) == (2, 4, [])
    assert proof["deletion"].startswith("del_")
    assert await house.objects.find(ROOT) == []
    again = await run(environment, "data", "delete", "--customer", customer, "--yes")
    assert again.status == 0
    assert "nothing: looked again" in again.out


async def test_a_session_or_a_request_goes_and_the_rest_stays(house: House, environment: Environment) -> None:
    customer = await two_sessions(house)
    frames = {frame.seq: public_form(frame.request_id) for frame, _ in await house.frames()}
    session = await run(environment, "data", "delete", "--customer", customer, "--session", "ep-2", "--yes", "--json")
    assert (session.status, json.loads(session.out)["episodes"]) == (0, 1)
    request = await run(environment, "data", "delete", "--request", frames[0], "--yes", "--json")
    assert (request.status, json.loads(request.out)["left"]) == (0, [])
    assert [frame.seq for frame, _ in await house.frames()] == [1]


async def test_what_cannot_be_deleted_is_refused_and_nothing_goes(house: House, environment: Environment) -> None:
    customer = await two_sessions(house)
    (frame, _), *_ = await house.frames()
    request = public_form(frame.request_id)
    refusals = {
        ("--yes",): "say whose: --customer cus_…",
        ("--yes", "--session", "ep-1"): "say whose: --customer cus_…",
        ("--yes", "--customer", "acme"): "there is no customer 'acme'.",
        ("--yes", "--customer", NOBODY): f"there is no customer {NOBODY}.",
        ("--yes", "--request", "inf_x"): "request must be an id such as inf_….",
        ("--yes", "--request", f"inf_{'0' * 32}"): "request must be an id such as inf_….",
        ("--yes", "--request", request, "--session", "ep-1"): "give a session or a request, not both.",
        ("--yes", "--request", request, "--customer", NOBODY): f"{NOBODY} has no request {request}.",
    }
    for words, message in refusals.items():
        done = await run(environment, "data", "delete", *words)
        assert (done.status, done.out, done.err) == (2, "", f"vlaapi: {message}\n"), words
    unsure = await run(environment, "data", "delete", "--customer", customer, "--session", "ep-1")
    assert unsure.status == 130
    assert f"Delete session ep-1 of {customer}?" in unsure.err
    for away in (store_down(environment), wrong_credentials(environment)):
        failed = await run(away, "data", "delete", "--customer", customer, "--yes")
        assert (failed.status, failed.out, failed.err.count("\n")) == (1, "", 1)
        assert "the object store is away or refuses (" in failed.err
        assert "a-secret" not in failed.err
    assert len(await house.frames()) == 3


async def test_a_deletion_that_cannot_be_proved_says_so_and_ends_with_one(house: House, environment: Environment) -> None:
    customer = await two_sessions(house)
    done = await run(redis_down(environment), "data", "delete", "--customer", customer, "--yes")
    assert (done.status, done.err) == (1, "")
    assert "Redis cannot be reached" in done.out
    assert await house.objects.find(ROOT) == []
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NOT NULL") == 0


async def test_an_export_is_a_new_folder_with_its_counts(house: House, environment: Environment, tmp_path: Path) -> None:
    customer, out = await two_sessions(house), tmp_path / "acme"
    done = await run(environment, "data", "export", "--customer", customer, "--out", str(out), "--json")
    assert (done.status, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["objects"], told["tables"]) == (4, len(list(out.glob("*.gz"))))
    assert out.stat().st_mode & 0o077 == 0
    (tmp_path / "a file").write_text("precious")
    inside = tmp_path / "a file" / "below"
    refusals = {
        (customer, out): f"{out} is there already: an export goes into a new folder.",
        (customer, inside): f"{inside} cannot be written: Not a directory.",
        (NOBODY, tmp_path / "new"): f"there is no customer {NOBODY}.",
        ("acme", tmp_path / "new"): "there is no customer 'acme'.",
    }
    for (whose, where), message in refusals.items():
        refused = await run(environment, "data", "export", "--customer", whose, "--out", str(where))
        assert (refused.status, refused.out, refused.err) == (2, "", f"vlaapi: {message}\n")
    assert not (tmp_path / "new").exists()
    away = await run(store_down(environment), "data", "export", "--customer", customer, "--out", str(tmp_path / "half"))
    assert away.status == 1
    assert "the object store is away or refuses (" in away.err
    assert not (tmp_path / "half" / "index.json").exists()


async def test_a_dataset_is_built_gone_on_with_and_rebuilt(house: House, environment: Environment, tmp_path: Path) -> None:
    customer, out = await two_sessions(house), tmp_path / "red"
    words = ("data", "build", "--task", "RED cube", "--held-out", "0", "--out", str(out), "--json")
    first = await run(environment, *words)
    assert (first.status, first.err) == (0, "")
    assert (json.loads(first.out)["frames"], json.loads(first.out)["skipped"]) == ({"train": 3}, {})
    again = json.loads((await run(environment, *words)).out)
    assert (again["frames"], again["skipped"], again["rebuilt"]) == ({"train": 3}, {"there already": 2}, False)
    await run(environment, "data", "delete", "--customer", customer, "--session", "ep-2", "--yes")
    rebuilt = json.loads((await run(environment, *words)).out)
    assert (rebuilt["frames"], rebuilt["rebuilt"]) == ({"train": 2}, True)
    readable = await run(environment, *words[:-1])
    assert "episodes           train 1\n" in readable.out


async def test_what_cannot_be_built_is_refused_by_name(house: House, environment: Environment, tmp_path: Path) -> None:
    await two_sessions(house)
    out, full, file = tmp_path / "out", tmp_path / "full", tmp_path / "file"
    full.mkdir()
    for path in (full / "mine", file):
        path.write_text("precious")
    refusals: dict[tuple[Path, *tuple[str, ...]], str] = {
        (full,): f"{full} is neither empty nor a dataset that was built here.",
        (file,): f"{file} cannot be written: Not a directory.",
        (out, "--since", "yesterday"): "since must be a day or an instant such as 2026-11-27.",
        (out, "--until", "2026-13-01"): "until must be a day or an instant such as 2026-11-27.",
        (out, "--customer", "acme"): "there is no customer 'acme'.",
        (out, "--model", "another"): "there is no episode that may be used: closed, whole, under train, and as asked.",
        (out, "--held-out", "1"): "Invalid value for '--held-out': Input should be less than or equal to 0.9",
    }
    for (where, *words), message in refusals.items():
        done = await run(environment, "data", "build", "--out", str(where), *words)
        assert (done.status, done.out, done.err) == (2, "", f"vlaapi: {message}\n"), words
    assert (full / "mine").read_text() == "precious"
    unset = await run(without_store(environment), "data", "build", "--out", str(out))
    assert (unset.status, unset.err) == (2, NO_STORE)
    for away in (store_down(environment), wrong_credentials(environment)):
        failed = await run(away, "data", "build", "--out", str(out))
        assert (failed.status, failed.out, failed.err.count("\n")) == (1, "", 1)
        assert "the object store is away or refuses (" in failed.err
    await house.agree(DataPolicy.STANDARD)
    withdrawn = await run(environment, "data", "build", "--out", str(tmp_path / "withdrawn"))
    assert (withdrawn.status, "no episode that may be used" in withdrawn.err) == (2, True)
