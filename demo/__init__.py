"""The main job on a fresh machine: two real registries on loopback, and the nightly DAG between them, twice."""
