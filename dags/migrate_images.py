"""Copies what a form says, started from Airflow's UI; plan first with the dry run."""

import os

from airflow.sdk import Param

from airflow_imagesync.dag_factory import image_sync_dag

RULES = """\
# source: destination (or a list of destinations), one a line
quay.io/coreos/etcd:v3.5.0,v3.5.1: registry.example.com/mirror/etcd
"""
# Whoever may start this DAG chooses which hosts the workers ask. To limit that, name the registries here, or in that
# variable with commas between them: host, host:port, or *.example.com for all below it. None: any.
ALLOWED_HOSTS = os.environ.get("IMAGESYNC_ALLOWED_HOSTS") or None
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le", "windows/amd64"]

dag = image_sync_dag(
    dag_id="migrate_images",
    description="Migrate images between registries, started by hand",
    rules="{{ params.rules }}",
    source_conn_id="{{ params.source_connection or '' }}",
    destination_conn_id="{{ params.destination_connection or '' }}",
    platforms="{{ (params.platforms or []) | join(',') }}",
    dry_run="{{ params.dry_run }}",
    force="{{ params.force }}",
    allowed_hosts=ALLOWED_HOSTS,
    report_path=os.environ.get("IMAGESYNC_REPORTS"),
    params={
        "rules": Param(
            RULES,
            type="string",
            format="multiline",
            minLength=1,
            title="Rules",
            description_md="YAML: `source: destination` lines as image-syncer's `images`, or a whole configuration "
            "with `rules`. No passwords: they would be stored with the run.",
        ),
        "source_connection": Param(
            None,
            type=["null", "string"],
            title="Source connection",
            description="Id of a connection of the type Container registry (OCI). Empty: anonymous.",
        ),
        "destination_connection": Param(
            None,
            type=["null", "string"],
            title="Destination connection",
            description="Id of a connection of the type Container registry (OCI). Empty: anonymous.",
        ),
        "platforms": Param(
            [],
            type=["null", "array"],
            examples=PLATFORMS,
            title="Platforms",
            description="Copy only these. Empty: all. A filter changes the digest of an index.",
        ),
        "dry_run": Param(False, type="boolean", title="Dry run", description="Only say what would be done."),
        "force": Param(False, type="boolean", title="Force", description="Copy what is the same, too."),
    },
)
