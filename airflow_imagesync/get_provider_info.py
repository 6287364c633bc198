"""What Airflow reads about this provider; imported by every Airflow process, so it imports nothing."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as Airflow's provider_info.schema.json describes it."""
    return {
        "package-name": "airflow-imagesync",
        "name": "Image sync",
        "description": "Migrate and keep in sync container images between registries.",
        "integrations": [
            {
                "integration-name": "Container registry",
                "external-doc-url": "https://github.com/opencontainers/distribution-spec",
                "tags": ["software"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Container registry",
                "python-modules": ["airflow_imagesync.hooks.registry"],
            }
        ],
        "operators": [
            {
                "integration-name": "Container registry",
                "python-modules": [
                    "airflow_imagesync.operators.image_sync",
                    "airflow_imagesync.operators.plan",
                    "airflow_imagesync.operators.report",
                    "airflow_imagesync.operators.approval",
                    "airflow_imagesync.operators.verify",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Container registry",
                "python-modules": ["airflow_imagesync.sensors.image"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Container registry",
                "python-modules": [
                    "airflow_imagesync.triggers.image",
                    "airflow_imagesync.triggers.image_tag",
                ],
            }
        ],
        "notifications": [
            "airflow_imagesync.notifications.image_sync.ImageSyncNotifier",
            "airflow_imagesync.notifications.log.LogNotifier",
        ],
        "extra-links": [
            "airflow_imagesync.operators.links.SourceRegistryLink",
            "airflow_imagesync.operators.links.DestinationRegistryLink",
            "airflow_imagesync.operators.links.SyncReportLink",
        ],
        "asset-uris": [
            {
                "schemes": ["oci"],
                "handler": "airflow_imagesync.assets.sanitize_uri",
                "factory": "airflow_imagesync.assets.create_asset",
                "to_openlineage_converter": "airflow_imagesync.assets.to_openlineage",
            }
        ],
        "connection-types": [
            {
                "connection-type": "oci_registry",
                "hook-class-name": "airflow_imagesync.hooks.registry.RegistryHook",
                "hook-name": "Container registry (OCI)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "Registry host",
                        "port": "Port (if not in the host)",
                        "login": "Username",
                        "password": "Password or token",
                    },
                    "placeholders": {
                        "host": "registry.example.com or registry.example.com:5000",
                        "login": "empty for anonymous access",
                    },
                },
                "conn-fields": {
                    "insecure": {
                        "label": "Plain HTTP",
                        "description": "The registry speaks HTTP, not HTTPS. Never a fallback from one to the other.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "tls_verify": {
                        "label": "Verify the certificate",
                        "description": "Switch off only for a self-signed registry whose authority you don't have.",
                        "schema": {"type": ["boolean", "null"], "default": True},
                    },
                    "ca_file": {
                        "label": "CA file",
                        "description": "Path, on the workers, of a PEM file with the authority of the certificate.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_cert": {
                        "label": "Client certificate",
                        "description": "Path, on the workers, of a PEM file, for registries that ask for one.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_key": {
                        "label": "Client key",
                        "description": "Path, on the workers, of the certificate's key, if it is not in the same file.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "http://host:port, or environment for what HTTPS_PROXY and NO_PROXY say there.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "identity_token": {
                        "label": "Identity token",
                        "description": "A refresh token instead of the password (Azure, docker login with a browser).",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "token_realm_hosts": {
                        "label": "Token service hosts",
                        "description": "Hosts, with commas between them, of token services that may see the login.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_cross_host_upload": {
                        "label": "Uploads to other hosts",
                        "description": "Let the registry name another host (HTTPS, public) to send layers to.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "max_concurrent": {
                        "label": "Requests at once",
                        "description": "At most so many requests in flight to this registry from one task.",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "requests_per_second": {
                        "label": "Requests a second",
                        "description": "At most so many requests a second to this registry from one task.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "min_remaining": {
                        "label": "Pulls to leave",
                        "description": "Wait while the registry says that no more pulls are left (Docker Hub).",
                        "schema": {"type": ["integer", "null"], "minimum": 0},
                    },
                },
            }
        ],
        "config": {
            "imagesync": {
                "description": "What syncs remember, so that later ones ask and send less.",
                "options": {
                    "records": {
                        "description": (
                            "Where syncs keep what they learned: the path of an SQLite file or an SQLAlchemy URL. "
                            "Empty for nowhere. For several workers, see records_conn_id.\n"
                        ),
                        "version_added": None,
                        "type": "string",
                        "example": "/var/lib/airflow/imagesync.db",
                        "default": "{AIRFLOW_HOME}/imagesync.db",
                        "sensitive": True,
                    },
                    "records_conn_id": {
                        "description": (
                            "The id of an Airflow connection (such as postgres, mysql or sqlite) to the database that "
                            "keeps what syncs learned, instead of records. It may be shared with others: the names of "
                            "all tables begin with imagesync_.\n"
                        ),
                        "version_added": None,
                        "type": "string",
                        "example": "imagesync_records",
                        "default": "",
                    },
                },
            }
        },
        "cli": ["airflow_imagesync.airflow_cli.get_imagesync_cli_commands"],
    }
