"""What runs: from the settings of one machine to the list of servers, in the order in which they start.

Every server that `VLA_…_URL` places elsewhere is left out. Builds values only; nothing is started here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from control_plane.settings import PREFIX, Settings, load_settings, variable
from deploy.embedded.api import api, api_socket, database, worker
from deploy.embedded.binaries import program
from deploy.embedded.canary import expected_shapes
from deploy.embedded.nginx import Door, nginx, system_nginx
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.server import Port, Server
from deploy.embedded.settings import ROOT, EmbeddedSettings
from deploy.embedded.state import State, read_secrets
from deploy.embedded.triton import Installation, Triton, installation_in, triton
from deploy.embedded.valkey import Store, valkey

# What a child may need of our own environment; VLA_* names are chosen one by one.
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER")

_PATHS = {variable("model_repository"), variable("spool_dir")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Servers by rank: those of one rank stop together, the last rank first. `variables` is the control plane's VLA_*."""

    ranks: tuple[tuple[Server, ...], ...]
    variables: Mapping[str, str]
    control: Settings
    url: str

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them, in start order."""
        return tuple(server for rank in self.ranks for server in rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every builder below needs. `environment` is ours; `plain` is the part of it that any server gets."""

    settings: EmbeddedSettings
    state: State
    environment: Mapping[str, str]

    @property
    def plain(self) -> dict[str, str]:
        """The environment of a server that knows nothing of us."""
        return {name: self.environment[name] for name in _PASSED_ON if name in self.environment}

    @property
    def url(self) -> str:
        """Where nginx answers, as seen from this machine."""
        address = self.settings.listen_address
        return f"http://{'127.0.0.1' if address.is_unspecified else address}:{self.settings.port}"

    def port(self, name: str) -> Port:
        """The port that the setting `name` holds."""
        number: int = getattr(self.settings, name)
        return Port(number=number, setting=variable(name))


def build_stack(site: Site) -> Stack:
    """The servers of this machine. Raises SettingsError, StartError or ManifestError; each says what to change."""
    cluster, store = _cluster(site), _store(site)
    given = {name: _whole(name, value) for name, value in site.environment.items() if name.startswith(PREFIX)}
    variables = {**_defaults(site, cluster, store), **given}
    control = load_settings(variables, also_known=map(variable, EmbeddedSettings.model_fields))
    ours = {name: variables[name] for name in map(variable, Settings.model_fields) if name in variables}
    stores = [
        (postgres(cluster, environment=site.plain),) if variable("database_url") not in given else (),
        (valkey(store, environment=site.plain),) if variable("redis_url") not in given else (),
        (triton(_triton(site, control), environment=site.plain),) if variable("triton_url") not in given else (),
    ]
    ranks = (*stores, *_control_plane(site, control, ours, stores), (nginx(_door(site, control), environment=site.plain),))
    return Stack(ranks=tuple(rank for rank in ranks if rank), variables=ours, control=control, url=site.url)


def _whole(name: str, value: str) -> str:
    """The processes run in a folder of their own, so relative paths are made whole here."""
    return str(Path(value).absolute()) if name in _PATHS and value else value


def _defaults(site: Site, cluster: Cluster, store: Store) -> dict[str, str]:
    """What the control plane is told unless the operator says otherwise."""
    values = {
        "database_url": cluster.url(),
        "redis_url": store.url,
        "triton_url": f"127.0.0.1:{site.settings.triton_grpc_port}",
        "key_pepper": read_secrets(site.state).key_pepper,
        "model_repository": str(ROOT / "model_repository"),
        "spool_dir": str(site.state.spool),
        "public_url": site.url,
    }
    return {variable(name): value for name, value in values.items()}


def _control_plane(
    site: Site, control: Settings, ours: Mapping[str, str], stores: Sequence[tuple[Server, ...]]
) -> tuple[tuple[Server, ...], ...]:
    environment = {**site.plain, **ours, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    there = {server.name for rank in stores for server in rank}
    step = database(state=site.state, environment=environment, depends_on=tuple(there & {"postgres"}))
    needs = (*sorted(there & {"postgres", "valkey"}), step.name)
    numbers = range(1, control.api_processes + 1)
    return (
        (step,),
        (worker(state=site.state, environment=environment, depends_on=needs),),
        tuple(
            api(
                number,
                state=site.state,
                environment=environment,
                depends_on=needs,
                max_message_bytes=control.max_body_bytes,
            )
            for number in numbers
        ),
    )


def _cluster(site: Site) -> Cluster:
    return Cluster(
        programs=program("postgres", override=site.settings.postgres_bin, setting=variable("postgres_bin")),
        data=site.state.root / "postgres",
        sockets=site.state.sockets,
        port=site.port("postgres_port"),
        password=read_secrets(site.state).postgres_password,
    )


def _store(site: Site) -> Store:
    return Store(
        program=program("valkey", override=site.settings.valkey_bin, setting=variable("valkey_bin")),
        data=site.state.root / "valkey",
        port=site.port("valkey_port"),
        password=read_secrets(site.state).valkey_password,
    )


def _triton(site: Site, control: Settings) -> Triton:
    elsewhere = site.settings.triton_bin
    return Triton(
        installation=installation_in(site.settings.triton_venv) if elsewhere is None else Installation(program=elsewhere),
        repository=control.model_repository,
        expected=expected_shapes(control.model_repository),
        scratch=site.state.root / "triton",
        links=site.state.sockets / "triton",
        grpc=site.port("triton_grpc_port"),
        http=site.port("triton_http_port"),
        metrics=site.port("triton_metrics_port"),
    )


def _door(site: Site, control: Settings) -> Door:
    chosen = site.settings.nginx_bin or system_nginx()
    return Door(
        program=program("nginx", override=chosen, setting=variable("nginx_bin")),
        folder=site.state.root / "nginx",
        access_log=site.state.log("access"),
        port=replace(site.port("port"), address=str(site.settings.listen_address)),
        upstreams=tuple(api_socket(site.state, number) for number in range(1, control.api_processes + 1)),
        max_body_bytes=control.max_body_bytes,
        body_timeout_s=control.body_timeout_s,
        key_per_s=site.settings.door_key_per_s,
        address_per_s=site.settings.door_address_per_s,
        errors_url=f"{control.public_url.rstrip('/')}/errors",
    )
