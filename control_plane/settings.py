"""Everything an operator can set, read once from `VLA_*` by the composition roots (app, worker, cli) and passed on as values.

A wrong or unknown name stops start-up and all faults are listed at once; secrets have no default. Facts about policies, robots
and prices are not settings: they live in manifest.json, safety/robots/*.toml and billing/prices.toml.
"""

import os
from collections.abc import Iterable, Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    ValidationError,
    field_validator,
)

from control_plane.object_place import place_of
from control_plane.sampling import rules_of

PREFIX = "VLA_"


_S = TypeVar("_S", bound="StoreSettings")


def _is_place(url: SecretStr) -> SecretStr:
    place_of(url.get_secret_value())
    return url


ObjectStoreUrl = Annotated[SecretStr, AfterValidator(_is_place)]
BackupKeep = Annotated[str, Field(pattern=r"^[1-9]\d{0,3}(/\d{1,4}){2}$")]


class SettingsError(Exception):
    """Start-up is refused; the text lists every fault, one a line."""


class StoreSettings(BaseModel):
    """What it takes to reach the stores: all that an operator's commands need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: PostgresDsn = Field(description="PostgreSQL, as postgresql://user:password@host:port/name.")
    redis_url: RedisDsn = Field(description="Redis protocol server with AOF and noeviction.")
    database_pool_size: int = Field(default=5, ge=1, description="PostgreSQL connections per process.")
    redis_timeout_s: float = Field(
        default=0.5, gt=0, description="Longest wait for one Redis answer before its fallback is used."
    )
    database_timeout_s: float = Field(default=2.0, gt=0, description="Longest wait for one PostgreSQL answer in a request.")

    object_store_url: ObjectStoreUrl | None = Field(
        default=None,
        description="S3, as https://ACCESS:SECRET@host:port/bucket?region=…; without it nothing is archived or captured.",
    )

    # Backups
    backup_key: SecretStr | None = Field(
        default=None, min_length=32, description="Secret that seals backups; without it none are made, losing it loses them all."
    )
    backup_store_url: ObjectStoreUrl | None = Field(
        default=None, description="S3 for backups, better in another account than the object store's; else that one."
    )
    postgres_programs: Path | None = Field(
        default=None, description="Folder with PostgreSQL's programs (pg_dump, pg_restore, …); else those on PATH."
    )

    key_pepper: SecretStr = Field(
        min_length=32, description="Secret mixed into every stored key digest; losing it voids all keys."
    )
    key_cache_s: float = Field(
        default=5.0, gt=0, le=5, description="Longest time a process trusts a verified key without looking."
    )

    # Mail and what is said in it
    smtp_url: SecretStr | None = Field(
        default=None,
        description="Mail server, smtps://user:password@host, smtp:// (STARTTLS) or smtp+plain://; without one, files.",
    )
    mail_from: str = Field(default="vlaapi@localhost", description="Sender of e-mails, as address or `Name <address>`.")
    operator_email: str | None = Field(default=None, description="Where the operator is told of sign-ups and trouble.")
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="Address customers use; appears in error links and e-mails."
    )
    seller_file: Path | None = Field(default=None, description="TOML file with who sends the invoices: see docs/BILLING.md.")
    webhook_allow_loopback: bool = Field(
        default=False, description="Whether webhooks may go to this machine, also without TLS: for development only."
    )
    docs_url: str | None = Field(default=None, description="Documentation that e-mails link to; else the service's own pages.")

    @property
    def backup_place(self) -> SecretStr | None:
        """Where backups go."""
        return self.backup_store_url or self.object_store_url

    @property
    def backups(self) -> tuple[str, bytes]:
        """Where they go, and the key that seals them. Raises SettingsError naming what is not set."""
        if self.backup_key is None or self.backup_place is None:
            missing = "backup_key" if self.backup_key is None else "backup_store_url"
            raise SettingsError(f"{variable(missing)}: is not set, and backups need it")
        return self.backup_place.get_secret_value(), self.backup_key.get_secret_value().encode()


class Settings(StoreSettings):
    """One field per thing an operator may set; units are in the names."""

    # Policies
    triton_url: str = Field(description="Triton's gRPC address as host:port; several, separated by commas, share the work.")
    model_repository: Path = Field(description="Folder with one sub-folder per policy, each with its manifest.json.")
    default_policy: str = Field(default="tabletop", description="Policy used when a request names no model.")
    default_deadline_ms: int = Field(default=2000, ge=10, description="Deadline of a request that names none.")
    robot_type: str = Field(default="franka_panda", description="Robot assumed when a request names none and the policy fits it.")
    safety_preset: str = Field(
        default="reduced", pattern="^(reduced|manufacturer)$", description="Speed preset of the action guard."
    )
    robots_dir: Path | None = Field(
        default=None, description="Folder with safety profiles of robots that are not shipped, one TOML file each."
    )
    safety_limits_file: Path | None = Field(
        default=None, description="TOML file with limits of the action guard that hold here for every customer."
    )

    # What a request may weigh
    max_body_bytes: int = Field(default=10_000_000, gt=0, description="Largest request body.")
    max_image_pixels: int = Field(default=16_000_000, gt=0, description="Largest image, width times height.")
    body_timeout_s: float = Field(default=10.0, gt=0, description="Longest time for a request body to arrive.")
    socket_idle_s: float = Field(default=600.0, gt=0, description="Longest silence on a WebSocket before it is closed.")
    decode_threads: int = Field(default=2, ge=1, description="Threads that decode images in each API process.")
    triton_in_flight: int = Field(
        default=16,
        ge=1,
        description="Requests of one API process at one Triton replica and policy; beyond it the fair queue begins.",
    )
    max_in_flight: int = Field(default=64, ge=1, description="Requests one API process works on before it sheds load.")

    # Journal and recorder
    spool_dir: Path = Field(description="Folder where usage events wait, fsynced, while Redis is away.")
    recorder_batch_rows: int = Field(default=1000, ge=1, description="Most usage events the recorder stores in one transaction.")
    log_retention_days: int = Field(
        default=90, ge=1, description="Days after the end of a closed month until its log rows move to the object store."
    )
    gpu_cost_cents_per_h: Decimal = Field(
        default=Decimal(0), ge=0, description="What all GPUs cost an hour, in cents of the price list's currency; for the margin."
    )
    server_cost_cents_per_h: Decimal = Field(
        default=Decimal(0), ge=0, description="What all other servers cost an hour, in the same cents."
    )
    # What customers let us keep (docs/TRAINING_DATA.md)
    capture_rules: str = Field(
        default="every=1", description="Which of the requests that may be kept are: every=N rejects score_below=X …"
    )
    capture_spool_bytes: int = Field(
        default=2_000_000_000, ge=32_000_000, description="Most that captured frames may take in the spool folder of one machine."
    )
    capture_idle_s: float = Field(
        default=30.0, gt=0, le=3600, description="Silence after which a session is over and its episode is whole."
    )
    backup_every_h: int = Field(default=24, ge=1, description="Hours from one backup to the next.")
    backup_keep: BackupKeep = Field(
        default="7/4/12", description="Backups that are kept, as DAILY/WEEKLY/MONTHLY: the newest of so many of each."
    )
    partition_days_ahead: int = Field(default=7, ge=1, description="Daily log partitions made in advance.")

    # Process
    api_processes: int = Field(
        default=2, ge=1, description="API processes that share a customer's limits while Redis is away; each grants its part."
    )
    trusted_proxies: str = Field(
        default="",
        description="Networks (CIDR, separated by commas) of load balancers whose X-Forwarded-For is believed.",
    )
    worker_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port on which a worker answers /metrics, where it runs apart from the API."
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="Lowest level that is logged.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in _parts(text):
            ip_network(part)  # its ValueError says what is wrong
        return text

    @property
    def trusted_networks(self) -> tuple[str, ...]:
        """`trusted_proxies`, one by one."""
        return _parts(self.trusted_proxies)

    @field_validator("capture_rules")
    @classmethod
    def _are_rules(cls, text: str) -> str:
        rules_of(text)
        return text

    @property
    def capture_dir(self) -> Path:
        """Where captured frames wait for the worker: below the spool, which both can reach."""
        return self.spool_dir / "capture"

    @property
    def outbox_dir(self) -> Path:
        """Where e-mails go, as files, when there is no mail server: beside the spool, in the folder of state."""
        return self.spool_dir.parent / "outbox"


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, text.split(",")) if part)


def load_settings(environment: Mapping[str, str] | None = None, *, also_known: Iterable[str] = ()) -> Settings:
    """Settings from the environment. Raises SettingsError listing every wrong, missing and unknown `VLA_*` at once.

    `also_known` are names another room reads (the embedded stack's overrides).
    """
    environment = os.environ if environment is None else environment
    known = {variable(name) for name in Settings.model_fields} | set(also_known)
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return _load(Settings, environment, faults=[f"{name}: unknown setting" for name in unknown])


def load_store_settings(environment: Mapping[str, str]) -> StoreSettings:
    """The part that reaches the stores. Other names are left alone: this is a person's shell, not a process of the service."""
    return _load(StoreSettings, environment, faults=[])


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"{PREFIX}{name}".upper()


def _load(kind: type[_S], environment: Mapping[str, str], *, faults: list[str]) -> _S:
    values = {name: environment[variable(name)] for name in kind.model_fields if variable(name) in environment}
    settings: _S | None = None
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        faults += [f"{variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors(include_input=False)]
    if faults or settings is None:
        raise SettingsError("\n".join(faults))
    return settings
