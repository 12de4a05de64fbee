"""What runs: from the settings of one machine to the list of servers, in the order in which they start.

Every server that `VLA_…_URL` places elsewhere is left out. Builds values only; nothing is started here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from control_plane.settings import PREFIX, Settings, load_settings, variable
from deploy.embedded.api import api, api_socket, database, worker
from deploy.embedded.binaries import program
from deploy.embedded.canary import expected_shapes
from deploy.embedded.monitoring import Monitoring, missing, monitoring, optional_program
from deploy.embedded.nginx import Door, nginx, system_nginx
from deploy.embedded.postgres import Archive, Cluster, postgres
from deploy.embedded.seaweedfs import Weed, seaweedfs
from deploy.embedded.server import Port, Server
from deploy.embedded.settings import ROOT, EmbeddedSettings
from deploy.embedded.state import State, read_secrets
from deploy.embedded.triton import Installation, Triton, installation_in, triton
from deploy.embedded.valkey import Store, valkey

# What a child may need of our own environment; VLA_* names are chosen one by one.
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER")

_PORT_STEP = 10  # between the ports of one embedded Triton and the next
_PATHS = {variable("model_repository"), variable("spool_dir")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Servers by rank: those of one rank stop together, the last rank first. `variables` is the control plane's VLA_*."""

    ranks: tuple[tuple[Server, ...], ...]
    variables: Mapping[str, str]
    control: Settings
    url: str
    notes: tuple[str, ...] = ()  # what is missing and does not stop the start

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

    @property
    def replicas(self) -> range:
        """The numbers of the embedded Tritons."""
        return range(1, self.settings.triton_replicas + 1)

    def replica_port(self, name: str, number: int) -> Port:
        """The port of one embedded Triton: the first has the setting's own."""
        first = self.port(name)
        return replace(first, number=first.number + _PORT_STEP * (number - 1))


def build_stack(site: Site) -> Stack:
    """The servers of this machine. Raises SettingsError, StartError or ManifestError; each says what to change."""
    cluster, store, weed = _cluster(site), _store(site), _weed(site)
    given = {name: _whole(name, value) for name, value in site.environment.items() if name.startswith(PREFIX)}
    variables = {**_defaults(site, cluster, store, weed), **given}
    control = load_settings(variables, also_known=map(variable, EmbeddedSettings.model_fields))
    ours = {name: variables[name] for name in map(variable, Settings.model_fields) if name in variables}
    stores = [
        (postgres(cluster, environment=_with_commands(site)),) if variable("database_url") not in given else (),
        (valkey(store, environment=site.plain),) if variable("redis_url") not in given else (),
        _tritons(site, control) if variable("triton_url") not in given else (),
        (seaweedfs(weed, environment=site.plain),) if variable("object_store_url") not in given else (),
    ]
    watching = _monitoring(site, weed, given)
    together = tuple(server for part in (*stores, monitoring(watching, environment=site.plain)) for server in part)
    ranks = (together, *_control_plane(site, control, ours, stores), (nginx(_door(site, control), environment=site.plain),))
    filled = tuple(rank for rank in ranks if rank)
    return Stack(ranks=filled, variables=ours, control=control, url=site.url, notes=missing(watching))


def _whole(name: str, value: str) -> str:
    """The processes run in a folder of their own, so relative paths are made whole here."""
    return str(Path(value).absolute()) if name in _PATHS and value else value


def _defaults(site: Site, cluster: Cluster, store: Store, weed: Weed) -> dict[str, str]:
    """What the control plane is told unless the operator says otherwise."""
    values = {
        "database_url": cluster.url(),
        "redis_url": store.url,
        "object_store_url": weed.url,
        "triton_url": ",".join(f"127.0.0.1:{site.replica_port('triton_grpc_port', number).number}" for number in site.replicas),
        "key_pepper": read_secrets(site.state).key_pepper,
        "backup_key": read_secrets(site.state).backup_key,
        "postgres_programs": str(cluster.programs),
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
        archive=Archive(command=f'"{ROOT}/scripts/vlaapi" backup wal-push "%p"', every_s=60)
        if site.settings.postgres_archive
        else None,
    )


def _with_commands(site: Site) -> dict[str, str]:
    """For a server that starts our own commands: they find the running service, and with it the store and the key."""
    return {**site.plain, variable("state_dir"): str(site.state.root)}


def _store(site: Site) -> Store:
    return Store(
        program=program("valkey", override=site.settings.valkey_bin, setting=variable("valkey_bin")),
        data=site.state.root / "valkey",
        port=site.port("valkey_port"),
        password=read_secrets(site.state).valkey_password,
    )


def _weed(site: Site) -> Weed:
    return Weed(
        program=program("seaweedfs", override=site.settings.seaweedfs_bin, setting=variable("seaweedfs_bin")),
        data=site.state.root / "seaweedfs",
        sockets=site.state.sockets,
        first=site.port("object_store_port"),
        secret_key=read_secrets(site.state).object_store_secret_key,
    )


def _monitoring(site: Site, weed: Weed, given: Mapping[str, str]) -> Monitoring:
    """Servers that run elsewhere are watched where they run. The door answers for every API process and the worker."""
    settings = site.settings
    names = {name: getattr(settings, f"{name}_bin") for name in ("prometheus", "alertmanager")}
    programs = {name: optional_program(name, override=path, setting=variable(f"{name}_bin")) for name, path in names.items()}
    webhook = settings.alert_webhook_url
    plan = Monitoring(
        **programs,
        folder=site.state.root,
        port=site.port("prometheus_port"),
        targets={},
        docs_url=f"{site.url}/docs",
        scrape_interval_s=settings.scrape_interval_s,
        webhook_url=None if webhook is None else webhook.get_secret_value(),
    )
    metrics_ports = [site.replica_port("triton_metrics_port", number) for number in site.replicas]
    address = settings.listen_address
    is_open_here = address.is_loopback or address.is_unspecified  # elsewhere the door gives /metrics to nobody
    here = {
        "api": [urlsplit(site.url).netloc] if is_open_here else [],
        "triton": [] if variable("triton_url") in given else [_local(port) for port in metrics_ports],
        "objects": [] if variable("object_store_url") in given else [_local(weed.ports["metricsPort"])],
        "prometheus": [_local(plan.port)],
        "alertmanager": [] if plan.alertmanager is None else [_local(plan.alertmanager_port)],
    }
    return replace(plan, targets={job: tuple(addresses) for job, addresses in here.items()})


def _local(port: Port) -> str:
    return f"127.0.0.1:{port.number}"


def _tritons(site: Site, control: Settings) -> tuple[Server, ...]:
    elsewhere = site.settings.triton_bin
    installation = installation_in(site.settings.triton_venv) if elsewhere is None else Installation(program=elsewhere)
    expected = expected_shapes(control.model_repository)
    names = {number: "triton" if number == 1 else f"triton-{number}" for number in site.replicas}
    plans = [
        Triton(
            name=name,
            installation=installation,
            repository=control.model_repository,
            expected=expected,
            scratch=site.state.root / name,
            links=site.state.sockets / name,
            grpc=site.replica_port("triton_grpc_port", number),
            http=site.replica_port("triton_http_port", number),
            metrics=site.replica_port("triton_metrics_port", number),
        )
        for number, name in names.items()
    ]
    return tuple(triton(plan, environment=site.plain) for plan in plans)


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
        trusted_proxies=control.trusted_networks,
        operators=site.settings.operator_networks,
    )
