"""The command line as an operator and a script meet it: real stores, one line for every refusal."""

import asyncio
import io
import json
import os
import pty
import re
import secrets
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.cli import main
from control_plane.identity.api_key import is_well_formed
from tests.conftest import outside, outside_loop
from tests.control_plane.identity.conftest import PEPPER, Observing, observing

__all__ = ["Observing", "observing"]

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "create_customer.py"
Environment = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


def inherited() -> Environment:
    """What every child needs, and nothing that names a service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VLA_")} | {"PYTHONPATH": python_path()}


def python_path() -> str:
    """The repository first, then whatever this process has."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def environment(postgres_url: str, clean_redis_url: str) -> Environment:
    """A shell in which the stores are named."""
    stores = {"VLA_DATABASE_URL": postgres_url, "VLA_REDIS_URL": clean_redis_url, "VLA_KEY_PEPPER": PEPPER.decode()}
    return inherited() | stores


def vlaapi(environment: Environment, *words: str) -> Done:
    """Runs a command without a terminal, inside this process: the same `main`, without a second for starting Python."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("VLA_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as end:
            outside(lambda: main(words))
    status = end.value.code
    return Done(status=status if isinstance(status, int) else 0, out=out.getvalue(), err=err.getvalue())


def python(environment: Environment, *words: str) -> Done:
    """Runs Python as a process of its own, from another folder."""
    argv = [sys.executable, *words]
    done = subprocess.run(argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


def an_email() -> str:
    """Nobody's yet."""
    return f"{secrets.token_hex(8)}@example.com"


def create(environment: Environment, *words: str) -> dict[str, object]:
    """A customer, as a script makes one."""
    done = vlaapi(environment, "customers", "create", "--company-name", "Acme", "--email", an_email(), "--json", *words)
    assert (done.status, done.err) == (0, "")
    made: dict[str, object] = json.loads(done.out)
    return made


def test_a_script_gets_one_json_object_with_the_key(environment: Environment) -> None:
    made = create(environment, "--tier", "enterprise", "--per-minute", "5", "--zero-retention", "--expires-in-days", "30")
    assert is_well_formed(str(made["api_key"]))
    assert made["is_announced"] is True
    customer = made["customer"]
    assert isinstance(customer, dict)
    assert re.fullmatch(r"cus_[0-9a-f]{32}", customer["id"])
    assert customer["limits"] == {"per_minute": 5, "per_day": 100_000, "per_month": None, "concurrency": 256}
    assert (customer["tier"], customer["is_zero_retention"]) == ("enterprise", True)


async def test_the_key_that_is_printed_is_let_in(environment: Environment, observing: Observing) -> None:
    made = await asyncio.to_thread(create, environment)
    async with observing() as process:
        assert await process.code(f"Bearer {made['api_key']}") == "ok"


def test_a_key_is_printed_once_and_never_again(environment: Environment) -> None:
    made = create(environment)
    secret = str(made["api_key"])
    shown = [vlaapi(environment, *words.split()) for words in ("customers list", "keys list", "keys list --json")]
    assert [done.status for done in shown] == [0, 0, 0]
    assert not any(secret[13:] in done.out + done.err for done in shown)
    assert all(f"{secret[:13]}…" in done.out for done in shown[1:])


def test_a_customers_life(environment: Environment) -> None:
    made = create(environment)
    customer = made["customer"]
    assert isinstance(customer, dict)
    id_ = customer["id"]
    issued = json.loads(vlaapi(environment, "keys", "create", id_, "--name", "line 2", "--json").out)
    steps = {
        ("customers", "set-tier", id_, "pro"): "tier pro",
        ("customers", "set-limits", id_, "--per-day", "77"): "100/minute, 77/day, 100000/month",
        ("customers", "set-limits", id_, "--per-day", "tier"): "100/minute, 10000/day, 100000/month",
        ("customers", "deactivate", id_): "active no",
        ("customers", "activate", id_): "active yes",
        ("keys", "revoke", issued["key"]["id"]): issued["key"]["start"],
    }
    for words, expected in steps.items():
        done = vlaapi(environment, *words)
        assert (done.status, done.err) == (0, "")
        assert expected in " ".join(done.out.split())
    keys = json.loads(vlaapi(environment, "keys", "list", "--customer", id_, "--json").out)["keys"]
    assert [(key["name"], key["revoked_at"] is None) for key in keys] == [("default", True), ("line 2", False)]


def test_a_keys_life(environment: Environment) -> None:
    made = create(environment)
    assert isinstance(made["customer"], dict)
    scope = ("--robots", "ur5e,so101", "--policies", "tabletop", "--allowed-ips", "203.0.113.0/24")
    issued = json.loads(vlaapi(environment, "keys", "create", made["customer"]["id"], "--test", *scope, "--json").out)
    assert issued["api_key"].startswith("vla_test_")
    assert (issued["key"]["is_test"], issued["key"]["robots"]) == (True, ["so101", "ur5e"])
    changed = json.loads(vlaapi(environment, "keys", "set", issued["key"]["id"], "--robots", "any", "--json").out)["key"]
    assert (changed["robots"], changed["policies"], changed["allowed_ips"]) == (None, ["tabletop"], ["203.0.113.0/24"])
    rotated = json.loads(vlaapi(environment, "keys", "rotate", issued["key"]["id"], "--overlap", "90m", "--json").out)
    assert rotated["api_key"].startswith("vla_test_")
    assert (rotated["old"]["id"], rotated["key"]["policies"]) == (issued["key"]["id"], ["tabletop"])
    listed = vlaapi(environment, "keys", "list", "--customer", made["customer"]["id"])
    assert {"is_test", "robots", "last_used_at"} <= set(listed.out.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("keys", "create", "cus_" + "0" * 32, "--robots", "toaster"), "customer"),
        (("keys", "rotate", "key_" + "0" * 32, "--overlap", "soon"), "overlap"),
        (("keys", "rotate", "key_" + "0" * 32), "key"),
        (("keys", "set", "key_" + "0" * 32, "--key-per-minute", "many"), "key_per_minute"),
        (("keys", "set", "key_" + "0" * 32), "key"),
        (("customers", "create", "--email", "a@example.com"), "company_name"),
        (("customers", "create", "--company-name", "A"), "email"),
        (("customers", "create", "--company-name", "A", "--email", "nowhere"), "email"),
        (("customers", "create", "--company-name", "A\nB", "--email", "a@example.com"), "company_name"),
        (("customers", "create", "--company-name", "A", "--email", "a@example.com", "--tier", "gold"), "tier"),
        (("customers", "create", "--company-name", "A", "--email", "a@example.com", "--per-day", "0"), "per_day"),
        (("customers", "create", "--company-name", "A", "--email", "a@example.com", "--per-day", "many"), "per-day"),
        (("customers", "set-limits", "cus_" + "0" * 32, "--per-day", "-3"), "per_day"),
        (("customers", "set-tier", "cus_" + "0" * 32, "pro"), "customer"),
        (("customers", "set-tier", "acme", "pro"), "customer"),
        (("keys", "revoke", "key_" + "0" * 32), "key"),
        (("keys", "revoke"), "KEY"),
        (("customers", "frobnicate"), "frobnicate"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(environment: Environment, words: tuple[str, ...], named: str) -> None:
    done = vlaapi(environment, *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert named in done.err


def test_an_address_that_is_taken_is_one_line(environment: Environment) -> None:
    words = ("customers", "create", "--company-name", "Acme", "--email", an_email())
    assert vlaapi(environment, *words).status == 0
    assert vlaapi(environment, *words) == Done(status=2, out="", err="vlaapi: email belongs to a customer already.\n")


@pytest.mark.parametrize("words", [("customers", "list"), ("keys", "list"), ("usage", "reconcile")])
def test_a_database_that_is_down_is_one_line_without_secrets(environment: Environment, words: tuple[str, ...]) -> None:
    done = vlaapi(environment | {"VLA_DATABASE_URL": "postgresql://vla:hunter2@127.0.0.1:1/vla"}, *words)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "database cannot be reached" in done.err
    assert "hunter2" not in done.err


def test_without_redis_the_command_is_done_and_says_so(environment: Environment) -> None:
    done = vlaapi(
        environment | {"VLA_REDIS_URL": "redis://127.0.0.1:1/0"},
        *("customers", "create", "--company-name", "Acme", "--email", an_email(), "--json"),
    )
    assert done.status == 0
    assert json.loads(done.out)["is_announced"] is False
    assert "Redis cannot be reached" in done.err


def test_the_script_finds_the_service_that_make_up_started(environment: Environment, tmp_path: Path) -> None:
    lines = [f"{name}={value}\n" for name, value in environment.items() if name.startswith("VLA_")]
    (tmp_path / "env").write_text("# of another process\n" + "".join(lines) + "VLA_TRITON_URL=127.0.0.1:1\n")
    shell = inherited() | {"VLA_STATE_DIR": str(tmp_path), "VLA_NGINX_BIN": "/somewhere/nginx"}
    done = python(shell, str(SCRIPT), "--company-name", "Acme Robotics", "--email", an_email())
    assert (done.status, done.err) == (0, "")
    assert any(is_well_formed(word) for word in done.out.split())


def test_a_shell_that_names_one_store_takes_nothing_from_the_local_service(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in environment.items() if name.startswith("VLA_")))
    shell = inherited() | {"VLA_STATE_DIR": str(tmp_path), "VLA_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    done = vlaapi(shell, "customers", "list")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "VLA_KEY_PEPPER" in done.err


def test_the_module_is_a_command(environment: Environment) -> None:
    done = python(environment, "-m", "control_plane.cli", "customers", "list", "--json")
    assert (done.status, done.err) == (0, "")
    assert "customers" in json.loads(done.out)


def test_without_any_service_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = vlaapi(inherited() | {"VLA_STATE_DIR": str(tmp_path)}, "customers", "list")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "make up" in done.err


def test_the_script_runs_under_a_python_that_has_nothing(environment: Environment) -> None:
    """`-S -I` is a Python without site-packages: it can only go on in .venv, or say what to do."""
    done = python(environment, "-S", "-I", str(SCRIPT), "--help")
    if (ROOT / ".venv" / "bin" / "python").exists():
        assert done.status == 0
    else:
        assert done == Done(status=1, out="", err="create_customer: the environment .venv is missing; run `make setup` first\n")


def test_a_person_at_a_terminal_is_asked_for_what_is_missing(environment: Environment) -> None:
    transcript = outside_loop(lambda: _converse(environment, ["Acme Robotics", an_email(), "pro"]))
    assert [question in transcript for question in ("Company name", "E-mail", "Tier")] == [True, True, True]
    assert "100/minute, 10000/day, 100000/month" in transcript
    assert any(is_well_formed(word) for word in transcript.split())


def test_a_wrong_answer_is_asked_for_again_at_once(environment: Environment) -> None:
    answers = ["  ", "Acme Robotics", "nobody", an_email(), "gold", "free"]
    transcript = outside_loop(lambda: _converse(environment, answers))
    assert [transcript.count(question) for question in ("Company name:", "E-mail:", "Tier (")] == [2, 2, 2]
    assert "must be an address such as ops@example.com" in transcript
    assert any(is_well_formed(word) for word in transcript.split())


async def _converse(environment: Environment, answers: list[str]) -> str:
    """Everything a person sees who runs the command in a terminal and answers its questions."""
    ours, theirs = pty.openpty()
    argv = (sys.executable, str(SCRIPT))
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    seen = b""
    while chunk := await asyncio.to_thread(_read, ours):
        seen += chunk
    await process.wait()
    os.close(ours)
    return seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_migrate_may_be_run_again(environment: Environment, tmp_path: Path) -> None:
    rest = {"VLA_TRITON_URL": "127.0.0.1:1", "VLA_MODEL_REPOSITORY": str(tmp_path), "VLA_SPOOL_DIR": str(tmp_path)}
    assert vlaapi(environment | rest, "migrate") == Done(status=0, out="The schema is up to date.\n", err="")
    written = {name: value for name, value in (environment | rest).items() if name.startswith("VLA_")}
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in written.items()))  # as `make up` does
    shell = inherited() | {"VLA_STATE_DIR": str(tmp_path)}
    assert vlaapi(shell, "migrate") == Done(status=0, out="The schema is up to date.\n", err="")


def test_the_process_commands_want_every_setting_and_list_what_is_missing(environment: Environment) -> None:
    for word in ("migrate", "worker"):
        done = vlaapi(environment, word)
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert all(name in done.err for name in ("VLA_TRITON_URL", "VLA_MODEL_REPOSITORY", "VLA_SPOOL_DIR"))
