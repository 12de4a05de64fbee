"""Renders the chart with a real helm. `python -m tests.deploy.chart` rewrites the golden files, and the settings in its schema.

The tools are those of `make chart-tools`, or on PATH; test_chart compares. No cluster is asked.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from control_plane.settings import Settings
from deploy.embedded.settings import ROOT

CHART = ROOT / "deploy" / "helm" / "vlaapi"
INPUTS = ROOT / "tests" / "deploy" / "chart_values"
GOLDEN = ROOT / "tests" / "golden" / "chart"
TOOLS = ROOT / ".venv-chart" / "bin"
NAMES = ("production", "small")

# What is in the Secret, and what the chart says itself; every other setting is a value.
SECRET = {"database_url", "redis_url", "key_pepper", "object_store_url", "backup_key", "backup_store_url", "smtp_url"}
OWN = {"triton_url", "model_repository", "spool_dir", "api_processes", "public_url", "postgres_programs", "worker_metrics_port"}


def tool(name: str) -> str | None:
    """A program of `make chart-tools`, else one on PATH."""
    return shutil.which(name, path=str(TOOLS)) or shutil.which(name)


def helm(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """One command of helm, which keeps its own files in `home`."""
    program = tool("helm")
    if program is None:
        raise FileNotFoundError("helm: `make chart-tools` brings one")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)


def rendered(name: str, *, home: Path) -> str:
    """The manifests for one of the inputs."""
    done = helm("template", "vla", str(CHART), "--namespace", "vla", "--values", str(INPUTS / f"{name}.yaml"), home=home)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def settings_of_the_chart() -> dict[str, Any]:
    """The schema's words about settings."""
    return {
        name: {"type": ["string", "boolean"], "description": field.description}
        for name, field in Settings.model_fields.items()
        if name not in SECRET | OWN
    }


def main() -> None:
    """Rewrites them."""
    path = CHART / "values.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["settings"]["properties"] = settings_of_the_chart()
    path.write_text(json.dumps(schema, indent=2) + "\n")
    if tool("helm") is None:
        sys.stderr.write("chart: without helm (`make chart-tools`) its golden files stay as they are\n")
        return
    GOLDEN.mkdir(exist_ok=True)
    for name in NAMES:
        (GOLDEN / f"{name}.yaml").write_text(rendered(name, home=ROOT / ".venv-chart"))


if __name__ == "__main__":
    main()
