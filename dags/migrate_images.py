"""Copies what a form says, started from Airflow's UI: the plan first, a person's approval, then the images."""

import os

from airflow.sdk import Param

from airflow_imagesync.dag_factory import image_sync_dag

RULES = """\
# source destination, one a line
quay.io/coreos/etcd:v3.5.0,v3.5.1 registry.example.com/mirror/etcd
"""
# Whoever may start this DAG chooses which hosts the workers ask. To limit that, name the registries here, or in that
# variable with commas between them: host, host:port, or *.example.com for all below it. None: any.
ALLOWED_HOSTS = os.environ.get("IMAGESYNC_ALLOWED_HOSTS") or None
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le", "windows/amd64"]


def field(default: object, kind: str, title: str, description: str, **more: object) -> Param:
    return Param(default, type=["null", kind], title=title, description=description, **more)


dag = image_sync_dag(
    dag_id="migrate_images",
    description="Migrate images between registries, started by hand",
    rules="{{ params.rules }}",
    source_conn_id="{{ params.source_connection or '' }}",
    destination_conn_id="{{ params.destination_connection or '' }}",
    platforms="{{ (params.platforms or []) | join(',') }}",
    dry_run="{{ params.dry_run }}",
    approval="{{ params.approval }}",
    pilot="{{ params.pilot or '' }}",
    estimate=True,
    verify="{{ params.verify }}",
    image_map=True,
    force="{{ params.force }}",
    concurrency="{{ params.concurrency or '' }}",
    allowed_hosts=ALLOWED_HOSTS,
    report_path=os.environ.get("IMAGESYNC_REPORTS"),
    max_active_runs=16,  # one that waits for its approval does not hold up the others
    params={
        "rules": Param(
            RULES,
            type="string",
            format="multiline",
            minLength=1,
            title="Rules",
            description_md="One `source destination` a line, or YAML: `source: destination` as image-syncer's "
            "`images`, or a whole configuration with `rules`. No passwords: they would be stored with the run.",
        ),
        "source_connection": field(
            None,
            "string",
            "Source connection",
            "Id of a connection of the type Container registry (OCI). Empty: anonymous.",
        ),
        "destination_connection": field(
            None,
            "string",
            "Destination connection",
            "Id of a connection of the type Container registry (OCI). Empty: anonymous.",
        ),
        "platforms": field(
            [],
            "array",
            "Platforms",
            "Copy only these. Empty: all. A filter changes the digest of an index.",
            examples=PLATFORMS,
        ),
        "dry_run": Param(False, type="boolean", title="Dry run", description="End after the plan: copy nothing."),
        "approval": Param(
            False,
            type="boolean",
            title="Ask for approval",
            description="Wait, after the plan, until a person approves it under Required Actions.",
        ),
        "pilot": field(
            None,
            "string",
            "Pilot",
            "What goes first, and must succeed before the rest: a number of images, or patterns such as */web:*. "
            "Empty: all at once.",
        ),
        "verify": Param(
            True,
            type="boolean",
            title="Verify",
            description="Compare both sides by digest after copying, and fail if anything differs.",
        ),
        "force": Param(False, type="boolean", title="Force", description="Copy what is the same, too."),
        "concurrency": field(
            None, "integer", "Concurrency", "Transfers at once in each task. Empty: 8.", minimum=1, maximum=64
        ),
    },
)
