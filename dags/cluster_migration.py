"""Moves what runs in a cluster to another registry: its images, and its manifests so that they name these by digest.

Started by hand from Airflow's UI, or by another DAG with TriggerDagRunOperator and a `conf` of the same fields.
"""

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_imagesync.dag_factory import image_sync_group
from airflow_imagesync.domain.image_map import ImageMap, image_reference
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.kubernetes import images_of_manifests, inventory_of_manifests, rewrite_manifests

MANIFESTS = os.environ.get("IMAGESYNC_MANIFESTS") or str(Path(__file__).with_name("examples"))
DESTINATION = os.environ.get("IMAGESYNC_DESTINATION") or "localhost:5002/migrated"
OUTPUT = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "migrated-manifests"
# Whoever may start this DAG chooses which hosts the workers ask, and which folders they read and write. To limit that,
# name the registries, with commas between them, and the folders, with colons between them. None: any.
ALLOWED_HOSTS = os.environ.get("IMAGESYNC_ALLOWED_HOSTS") or None
ALLOWED_FOLDERS = os.environ.get("IMAGESYNC_ALLOWED_FOLDERS") or None
CONNECTION = "Id of a connection of the type Container registry (OCI). Empty: anonymous."


def allowed(folder: str) -> Path:
    path = Path(folder).resolve()
    if ALLOWED_FOLDERS and not any(path.is_relative_to(Path(one).resolve()) for one in ALLOWED_FOLDERS.split(":")):
        raise ConfigError(f"the folder {folder} is not below one of IMAGESYNC_ALLOWED_FOLDERS; name one that is")
    return path


with DAG(
    dag_id="cluster_migration",
    description="Copy the images of Kubernetes manifests and rewrite the manifests",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["imagesync"],
    params={
        "manifests": Param(
            MANIFESTS,
            type="string",
            minLength=1,
            title="Manifests",
            description="A folder (or file) of Kubernetes manifests on the workers: *.yaml, *.yml, *.json, also in "
            "folders below it. Templates are passed over: render them first.",
        ),
        "destination": Param(
            DESTINATION,
            type="string",
            minLength=1,
            title="Destination",
            description="Where the images go: registry/prefix, behind which each keeps its repository's name.",
        ),
        "source_connection": Param(None, type=["null", "string"], title="Source connection", description=CONNECTION),
        "destination_connection": Param(
            None, type=["null", "string"], title="Destination connection", description=CONNECTION
        ),
        "output": Param(
            str(OUTPUT),
            type="string",
            minLength=1,
            title="Output folder",
            description="Where the rewritten manifests go, under the names they have; all workers must share it.",
        ),
    },
) as dag:

    @task
    def inventory(manifests: str, destination: str, output: str) -> list[dict[str, str]]:
        """Return a rule for each image that the manifests name."""
        allowed(output)  # a mistake is told before anything is copied
        images = images_of_manifests(allowed(manifests))
        if not images:
            raise ConfigError(f"the manifests at {manifests} name no images; say where the right ones are")
        to = destination.rstrip("/")
        return [{"source": one, "destination": f"{to}/{image_reference(one).repository.path}"} for one in images]

    images = image_sync_group(
        group_id="images",
        rules=inventory("{{ params.manifests }}", "{{ params.destination }}", "{{ params.output }}"),
        source_conn_id="{{ params.source_connection or '' }}",
        destination_conn_id="{{ params.destination_connection or '' }}",
        allowed_hosts=ALLOWED_HOSTS,
        verify=True,
        report_path=os.environ.get("IMAGESYNC_REPORTS"),
    )

    @task
    def rewrite(manifests: str, output: str, image_map: dict[str, str]) -> list[str]:
        """Write the manifests with their images at the destination, and return the files."""
        return list(rewrite_manifests(allowed(manifests), image_map, allowed(output)).written)

    @task
    def verify(files: list[str], image_map: dict[str, str]) -> None:
        """Fail if a rewritten manifest names an image that is not at the destination."""
        known = ImageMap.load(image_map)
        for found in map(inventory_of_manifests, files):
            moved = [one for one in found.places if known.has_destination(image_reference(one.image))]
            left = [f"{one.image} in {one}" for one in (*found.places, *found.unclear) if one not in moved]
            if left:
                raise ConfigError(f"not moved: {'; '.join(left)}")

    files = rewrite("{{ params.manifests }}", "{{ params.output }}", images.image_map)
    verify(files, images.image_map)
