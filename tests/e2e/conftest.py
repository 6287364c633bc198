"""One Airflow for all tests here, with its registries and the DAGs that the tests run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy
from tests.support import PASSWORD, USER
from tests.support.airflow_server import AirflowServer
from tests.support.front import Front
from tests.support.statsd import StatsdSink

ROOT = Path(__file__).parents[2]
#: The DAGs that the tests run, each in a file of its name; they find the site by the variables SITE_....
DAGS = [
    *Path(__file__).with_name("dags").glob("*.py"),
    *(ROOT / "dags" / f"{name}.py" for name in ("migrate_images", "cluster_migration")),
]
#: Those of the tests marked `more_airflow`: to read all of them takes most of a minute.
MORE_DAGS = list(Path(__file__).with_name("more_dags").glob("*.py"))
#: Where secrets are planted that none of Airflow's stores, logs and reports may show.
PLANTED = {
    "file": PASSWORD,
    "environment": "planted-in-the-environment-7Gq",
    "connection": "planted-in-a-connection-x2W",
    "token": f"identity-of-{USER}",
}


@dataclass(frozen=True)
class Site:
    """Airflow, and what it works on. Tests stop and start the registry ``flaky``; ``front`` is before ``source``.

    Airflow's metrics go to ``metrics``, and the lineage of DAGs that ask for it to the file ``lineage.json``.
    """

    airflow: AirflowServer
    folder: Path
    source: DistributionRegistry
    destination: DistributionRegistry
    htpasswd: DistributionRegistry
    token: DistributionRegistry
    flaky: DistributionRegistry
    front: Front
    metrics: StatsdSink

    def report(self, *names: str) -> dict[str, Any]:
        """Return a report that a DAG wrote."""
        document: dict[str, Any] = json.loads(self.folder.joinpath("reports", *names).read_text())
        return document


@pytest.fixture(scope="session")
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    airflow_database: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    token_registry: DistributionRegistry,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    home = tmp_path_factory.mktemp("airflow")
    source, destination = source_registry, destination_registry
    with (
        DistributionRegistry() as flaky,
        LatencyProxy(destination.host, delay=1.0) as slow,
        Front(source.host) as front,
        StatsdSink() as metrics,
    ):
        known = {one: {"insecure": True} for one in (source.host, destination.host, flaky.host, slow.host, front.host)}

        def write(name: str, rules: dict[str, str], registries: dict[str, Any] | None = None, **defaults: Any) -> None:
            document = {
                "registries": {**known, **(registries or {})},
                "defaults": defaults,
                "rules": [{"source": one, "destination": to} for one, to in rules.items()],
            }
            (folder / f"{name}.yaml").write_text(json.dumps(document))

        write(
            "nightly",
            {
                f"{source.host}/night/app": f"{destination.host}/night/app",
                f"{source.host}/night/late:v1": f"{destination.host}/night/late",
            },
        )
        write(
            "planted",
            {
                f"{source.host}/planted/app": f"{htpasswd_registry.host}/planted/app",
                f"{source.host}/planted/app:v1": f"{token_registry.host}/planted/app",
                f"{source.host}/planted/app:v2": f"{htpasswd_registry.host}/refused/app",
            },
            {
                source.host: {"insecure": True, "username": "me", "password": "${PLANTED_PASSWORD}"},
                htpasswd_registry.host: {"insecure": True, "username": USER, "password": PLANTED["file"]},
                f"{htpasswd_registry.host}/refused": {"insecure": True, "conn_id": "refused"},
                token_registry.host: {"conn_id": "stored"},
            },
        )
        write("unset", {f"{source.host}/night/app": f"{destination.host}/${{NOT_SET}}/app"})
        write("slow", {f"{source.host}/slow/app:v1": f"{slow.host}/slow/app"}, concurrency=1)
        write(
            "waiting",
            {
                f"{source.host}/waiting/app:v1": f"{destination.host}/waiting/app",
                f"{front.host}/waiting/app:v2": f"{destination.host}/waiting/app",
            },
        )
        for name in ("asking", "gone"):
            write(name, {f"{source.host}/{name}/app": f"{destination.host}/{name}/app"})
        write(
            "changing",
            {
                f"{source.host}/changing/app": f"{destination.host}/changing/app",
                f"{source.host}/changing/late:v1": f"{destination.host}/changing/late",
            },
        )
        write(
            "retrying",
            {
                f"{front.host}/retrying/app": f"{destination.host}/retrying/app",
                f"{source.host}/retrying/partly:v1,v2": f"{destination.host}/retrying/partly",
            },
        )
        write("larger", {f"{source.host}/larger/app": f"{destination.host}/larger/app"})
        write(
            "own",
            {
                f"{source.host}/own/app:v1": f"{destination.host}/own/one",
                f"{flaky.host}/own/app:v1": f"{destination.host}/own/two",
            },
        )
        (folder / "broken.yaml").write_text("rules:\n  - {source: a.io/b, destnation: c.io/d}\n")

        reached = {"conn_type": "oci_registry", "extra": {"insecure": True}}
        airflow = AirflowServer(
            home,
            airflow_database,
            {
                **metrics.environ,
                "AIRFLOW__CORE__MAX_MAP_LENGTH": "3",
                "AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE": "True",
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                    {"type": "file", "log_file_path": str(folder / "lineage.json"), "append": True}
                ),
                "AIRFLOW_CONN_SRC": json.dumps({**reached, "host": source.host}),
                "AIRFLOW_CONN_PLAIN": json.dumps({**reached, "host": destination.host}),
                "AIRFLOW_CONN_DST": json.dumps(
                    {**reached, "host": htpasswd_registry.host, "login": USER, "password": PASSWORD}
                ),
                "AIRFLOW_CONN_REFUSED": json.dumps({**reached, "login": USER, "password": PLANTED["connection"]}),
                "PLANTED_PASSWORD": PLANTED["environment"],
                "SITE_FOLDER": str(folder),
                "SITE_SOURCE": source.host,
                "SITE_DESTINATION": destination.host,
                "SITE_HTPASSWD": htpasswd_registry.host,
                "SITE_FLAKY": flaky.host,
                "SITE_FRONT": front.host,
            },
        )
        more = any(one.get_closest_marker("more_airflow") for one in request.session.items)
        dags = [*DAGS, *(MORE_DAGS if more else [])]
        for path in dags:
            shutil.copy(path, airflow.dags)
        with airflow:
            airflow.request(
                "POST",
                "/api/v2/connections",
                {
                    "connection_id": "stored",
                    "conn_type": "oci_registry",
                    "host": token_registry.host,
                    "extra": json.dumps({"insecure": True, "identity_token": PLANTED["token"]}),
                },
            )
            known_dags = {path.stem for path in dags} - {"broken"}
            airflow.wait_for(lambda: _dag_ids(airflow) == known_dags, "the DAGs to be parsed")
            yield Site(airflow, folder, source, destination, htpasswd_registry, token_registry, flaky, front, metrics)


def _dag_ids(airflow: AirflowServer) -> set[str]:
    return {one["dag_id"] for one in airflow.request("GET", "/api/v2/dags")["dags"]}
