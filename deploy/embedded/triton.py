"""The real Triton as an embedded server: the `tritonserver` of `nvidia-pytriton`, in an environment of its own with numpy < 2.

Its release is behind the security fixes of 2025 and 2026, so everything listens on loopback only and nothing can load a model at
run time. HTTP is kept for health and the canary; inference comes over gRPC. Knows no policy but by its folder.
"""

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.canary import Shapes, check_policies
from deploy.embedded.server import Port, Server, StartError

_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
# Groups of calls that change a running server: models, memory that it maps, where it writes its logs and traces.
CLOSED = ("shared-memory", "model-repository", "trace", "logging")
_EXIT_TIMEOUT_S = 2  # it looks once a second and needs two looks to unload; with 1 it exits 1 and models are cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A tritonserver program; `backends` is None where the program knows its own, `library_path` what it must find."""

    program: Path
    backends: Path | None = None
    stub: Path | None = None
    bin_folder: Path | None = None
    library_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Triton:
    """Which policies are served, from which installation, on which ports. `scratch` is a folder of its own.

    `links` is another one, whose path has no space and nothing else that a shell takes apart: Triton starts its Python processes
    through a shell without quoting (2.51.0), so it is given both other folders by links in there.
    """

    installation: Installation
    repository: Path
    expected: Mapping[str, Shapes]  # from `expected_shapes(repository)`
    scratch: Path
    links: Path
    grpc: Port
    http: Port
    metrics: Port
    name: str = "triton"

    @property
    def url(self) -> str:
        """Its gRPC address for clients."""
        return f"127.0.0.1:{self.grpc.number}"


def triton(plan: Triton, *, environment: Mapping[str, str]) -> Server:
    """The server. Ready means: every policy has answered zeros with the shape that its manifest promises."""
    return Server(
        name=plan.name,
        argv=_argv(plan),
        environment={**environment, **_environment(plan, environment)},
        folder=plan.scratch,
        prepare=lambda: _prepare(plan),
        tidy=lambda _: _remove_shared_memory(plan),
        check=lambda _: check_answers(plan),
        ports=(plan.grpc, plan.http, plan.metrics),
        stop_timeout_s=_EXIT_TIMEOUT_S + 3.0,
        start_timeout_s=60.0,
        probe_every_s=10.0,
    )


async def check_answers(plan: Triton) -> None:
    """One inference per policy. Raises NotReadyError or, on a wrong shape, StartError."""
    await asyncio.to_thread(check_policies, plan.http.number, plan.expected)


def installation_in(venv: Path) -> Installation:
    """The installation inside a virtual environment. Raises StartError saying what is missing."""
    site = next(iter(sorted(venv.glob("lib/python3.*/site-packages"))), None)
    server = None if site is None else site / "pytriton" / "tritonserver"
    if site is None or server is None or not server.exists():
        raise StartError(f"triton: {venv} holds no nvidia-pytriton; run `make setup`, or set VLA_TRITON_VENV")
    if numpy := next(site.glob("numpy-[2-9]*.dist-info"), None):
        raise StartError(f"triton: {numpy.stem} in {venv}; its Python backend needs numpy < 2 (with 2 every answer is empty)")
    version = site.parent.name.removeprefix("python")
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise StartError(f"triton: no backend for Python {version}; make {venv} with Python 3.11, 3.12 or 3.13")
    return Installation(
        program=server / "bin" / "tritonserver",
        backends=server / "backends" / "python",
        stub=stub,
        bin_folder=venv / "bin",
        library_path=f"{site / 'nvidia_pytriton.libs'}:{_folder_of_libpython(venv, version)}",
    )


def _folder_of_libpython(venv: Path, version: str) -> Path:
    """The stub is linked against the shared libpython, which Debian keeps apart from the interpreter."""
    lines = (venv / "pyvenv.cfg").read_text().splitlines()
    home = next(Path(line.partition("=")[2].strip()) for line in lines if line.partition("=")[0].strip() == "home")
    for folder in (home.parent / "lib", *map(Path, _LIBRARY_FOLDERS)):
        if (folder / f"libpython{version}.so.1.0").exists():
            return folder
    raise StartError(f"triton: libpython{version}.so.1.0 is missing; on Debian and Ubuntu: apt install python3-dev")


def _argv(plan: Triton) -> tuple[str, ...]:
    local = "127.0.0.1"
    backends = () if plan.installation.backends is None else (f"--backend-directory={plan.links / 'scratch' / 'backends'}",)
    return (
        str(plan.installation.program),
        f"--model-repository={plan.links / 'models'}",
        *backends,
        f"--backend-config=python,shm-region-prefix-name={_shared_memory_prefix(plan)}",
        *(f"--grpc-address={local}", f"--grpc-port={plan.grpc.number}"),
        *(f"--http-address={local}", f"--http-port={plan.http.number}", "--http-thread-count=2"),
        *(f"--metrics-address={local}", f"--metrics-port={plan.metrics.number}"),
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        *_closed(),
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        "--log-format=ISO8601",
    )


def _closed() -> tuple[str, ...]:
    """What changes a running server asks for a key that nobody is told: it is made here and gone with the process.

    Another user of this machine could read it in the process list; who may be one is no user of this machine.
    """
    key = secrets.token_hex(24)
    closed = ",".join(CLOSED)
    return f"--grpc-restricted-protocol={closed}:admin-key={key}", f"--http-restricted-api={closed}:admin-key={key}"


def _environment(plan: Triton, given: Mapping[str, str]) -> dict[str, str]:
    """The stub ignores VIRTUAL_ENV and PYTHONPATH: it takes the packages of the first python on PATH."""
    added = {}
    if plan.installation.bin_folder is not None:
        added["PATH"] = f"{plan.installation.bin_folder}:{given.get('PATH', '/usr/bin:/bin')}"
    if plan.installation.library_path is not None:
        added["LD_LIBRARY_PATH"] = plan.installation.library_path
    return added


def _prepare(plan: Triton) -> None:
    """Copies the Python backend beside its stub (never inside site-packages) and removes what a killed Triton left behind."""
    if not any(plan.repository.glob("*/config.pbtxt")):
        raise StartError(f"triton: {plan.repository} holds no policy (VLA_MODEL_REPOSITORY)")
    for folder in (plan.scratch, plan.links.parent, plan.links):  # `parents=True` would make them readable for everyone
        folder.mkdir(mode=0o700, exist_ok=True)
    for link, target in ((plan.links / "models", plan.repository), (plan.links / "scratch", plan.scratch)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    _remove_shared_memory(plan)
    if plan.installation.backends is None or plan.installation.stub is None:
        return
    target = plan.scratch / "backends" / "python"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(plan.installation.backends, target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(plan.installation.stub, target)


def _remove_shared_memory(plan: Triton) -> None:
    """A Triton or a stub that was killed leaves its region in memory until the machine restarts."""
    for region in Path("/dev/shm").glob(f"{_shared_memory_prefix(plan)}*"):  # noqa: S108 -- our own prefix
        region.unlink(missing_ok=True)


def _shared_memory_prefix(plan: Triton) -> str:
    return f"vla_{plan.grpc.number}_"
