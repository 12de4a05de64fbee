"""The user that Grafana logs in as: a member of `vlaapi_reader`, bounded in time and connections, and never anybody else.

PostgreSQL is told a SCRAM verifier, so the password is in none of its logs. Never touches a role that it did not make.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

import asyncpg

from control_plane.db import connect, database_errors
from control_plane.errors import ApiError

READER = "vlaapi_reader"
SCHEMA = "dashboards"
SHORTEST_PASSWORD = 16
STATEMENT_TIMEOUT = "10s"
MOST_CONNECTIONS = 10

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_ITERATIONS = 4096  # PostgreSQL's own default
_TIMEOUT_S = 30.0

# No row: nobody has the name. True: it is somebody who may do, or is a member of, anything else than reading.
_IS_SOMEBODY_ELSE = """
    SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
           OR EXISTS (SELECT FROM pg_class WHERE relowner = r.oid)
           OR (SELECT array_agg(roleid::regrole::text) FROM pg_auth_members WHERE member = r.oid) IS DISTINCT FROM ARRAY[$2::text]
    FROM pg_roles r WHERE rolname = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who is to read."""

    name: str
    password: str


def login_of(name: str, password: str) -> Login:
    """Raises ApiError naming the field that will not do."""
    if not _NAME.fullmatch(name) or name.startswith("pg_") or name == READER:
        raise ApiError(
            "invalid_field", "name must be lower-case letters, digits and _, and no role of the service.", param="name"
        )
    if len(password) < SHORTEST_PASSWORD or not all("!" <= character <= "~" for character in password):
        message = f"The password must be at least {SHORTEST_PASSWORD} visible ASCII characters."
        raise ApiError("invalid_field", message, param="password")
    return Login(name=name, password=password)


async def let_in(database_url: str, login: Login) -> bool:
    """Makes the user, or gives the one it made before this password. True if it is new.

    The address must be of somebody who may create roles. Raises ApiError when they may not, or when the name is taken.
    """
    with database_errors():
        connection = await connect(database_url, timeout_s=_TIMEOUT_S, name="vlaapi dashboards login")
        try:
            async with connection.transaction():
                return await _let_in(connection, login)
        except asyncpg.InsufficientPrivilegeError:
            message = "This database user may not create roles; name one who may with --as, and its password in PGPASSWORD."
            raise ApiError("invalid_field", message, param="as") from None
        finally:
            await connection.close()


async def _let_in(connection: "asyncpg.Connection", login: Login) -> bool:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", READER):
        await connection.execute(f"CREATE ROLE {READER} NOLOGIN")
    await connection.execute(f"CALL {SCHEMA}.open_to_reader()")
    is_somebody_else = await connection.fetchval(_IS_SOMEBODY_ELSE, login.name, READER)
    if is_somebody_else:
        raise ApiError("invalid_field", f"{login.name} is already somebody else in this database; choose another.", param="name")
    is_new = is_somebody_else is None
    # Names and verifier hold no quote: the one was checked, the other is base64.
    verifier = scram_verifier(login.password, salt=secrets.token_bytes(16))
    how = f"LOGIN PASSWORD '{verifier}' CONNECTION LIMIT {MOST_CONNECTIONS}"
    await connection.execute(f"{'CREATE' if is_new else 'ALTER'} ROLE {login.name} WITH {how}")
    for setting, value in {
        "search_path": SCHEMA,
        "statement_timeout": f"'{STATEMENT_TIMEOUT}'",
        "idle_in_transaction_session_timeout": f"'{STATEMENT_TIMEOUT}'",
        "default_transaction_read_only": "on",
        "timezone": "'UTC'",
    }.items():
        await connection.execute(f"ALTER ROLE {login.name} SET {setting} = {value}")
    await connection.execute(f"GRANT {READER} TO {login.name}")
    return is_new


def scram_verifier(password: str, *, salt: bytes) -> str:
    """What PostgreSQL keeps instead of the password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
