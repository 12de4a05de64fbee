"""Writes production's nginx.conf to stdout: `python -m deploy.nginx`; `make golden` keeps deploy/nginx/nginx.conf that way.

Limits come from the settings' defaults, or from the environment where it holds them. What differs from site to site (operators'
networks, load balancers, the public address) is in a file that deploy/install.sh writes and this configuration includes.
"""

import os
import sys
from collections.abc import Mapping

from control_plane.settings import Settings, variable
from deploy.embedded.settings import EmbeddedSettings
from deploy.nginx.conf import Conf, Limits, Tls, render

_VERSION = (1, 30, 4)  # of the image in deploy/docker/images.env


def production(environment: Mapping[str, str]) -> Conf:
    """The nginx container: unprivileged ports, everything that it writes under /tmp, API replicas by name."""
    body = Settings.model_fields["max_body_bytes"].default, Settings.model_fields["body_timeout_s"].default
    rates = (EmbeddedSettings.model_fields[name].default for name in ("door_key_per_s", "door_address_per_s"))
    names = ("max_body_bytes", "body_timeout_s", "door_key_per_s", "door_address_per_s")
    given = [environment.get(variable(name)) or default for name, default in zip(names, (*body, *rates), strict=True)]
    return Conf(
        limits=Limits(
            max_body_bytes=int(given[0]), body_timeout_s=float(given[1]), key_per_s=int(given[2]), address_per_s=int(given[3])
        ),
        scratch="/tmp",  # noqa: S108 -- the container's own tmpfs
        access_log="/dev/stdout",
        listen="8443",
        upstreams=(
            "# A replica that comes or goes is known from the containers' name server within seconds.",
            "zone api 256k;",
            "resolver 127.0.0.11 valid=5s ipv6=off;",
            "least_conn;",
            "server api:8000 resolve max_fails=3 fail_timeout=2s;",
        ),
        site=("include /etc/nginx/site/site.conf; # written by deploy/install.sh",),
        errors_url="$vla_public_url/errors",
        docs="/srv/docs",
        open_files=16384,
        version=_VERSION,
        has_stub_status=True,
        workers="auto",
        drain_s=30,
        tls=Tls(
            certificate="/etc/nginx/tls/fullchain.pem",
            key="/etc/nginx/tls/privkey.pem",
            plain_listen="8080",
            acme="/srv/acme",
            status_listen="8081",
        ),
    )


if __name__ == "__main__":
    sys.stdout.write(render(production(os.environ)))
