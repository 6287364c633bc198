"""Runs the demo: ``python -m demo``, with ``--ui`` to end in Airflow's web UI."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import textwrap
from collections import Counter
from pathlib import Path

from airflow_imagesync.cli.tables import run_view
from airflow_imagesync.domain.report import ImageResult, SyncReport
from demo.airflow import DemoAirflow
from demo.content import fill, fill_cluster
from devtools.distribution import DistributionRegistry
from devtools.install import MissingProgramError, ensure

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".demo"


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--ui", action="store_true", help="end in Airflow's web UI")
    arguments = parser.parse_args()
    # Both end the demo, also where it was started with them ignored: whatever it started must end with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return run(with_ui=arguments.ui)
    except KeyboardInterrupt:
        say("Stopped; nothing is left running")
        return 130


def run(*, with_ui: bool) -> int:
    """Run the nightly DAG twice between two registries, show the reports, and return the exit code."""
    try:
        ensure("registry")
    except MissingProgramError as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with DistributionRegistry() as source, DistributionRegistry() as destination:
        say(f"Two registries run: the source at {source.host}, the destination at {destination.host}")
        tags = fill(source.url)
        say(f"The source has {tags} tags of multi-arch images, with attestations, and a chart")
        config = FOLDER / "imagesync.yaml"
        config.write_text(configuration(source.host, destination.host))
        say(f"The configuration ({config.relative_to(ROOT)}):")
        print(textwrap.indent(config.read_text(), "    "))
        manifests = copy_manifests(FOLDER / "manifests", source.host)
        registries = {"source_registry": source.host, "destination_registry": destination.host}
        airflow = DemoAirflow(FOLDER, ROOT / "dags", config, manifests, registries)
        say("Airflow sets up its database (SQLite)")
        airflow.set_up()
        ok = True
        for title in ("The nightly DAG runs", "It runs again: now there is nothing to do"):
            say(title)
            before = len(source.requests_log()), len(destination.requests_log())
            code = airflow.run("nightly_sync")
            report = read_report(FOLDER / "reports" / "nightly_sync" / "latest.json")
            if report is None:
                print(f"the run left no report; its log is {airflow.log.relative_to(ROOT)}", file=sys.stderr)
                return 1
            print(run_view(report, all_images=True, terminal=sys.stdout.isatty()))
            for name, registry, start in (
                ("source", source, before[0]),
                ("destination", destination, before[1]),
            ):
                counts = Counter(one.method for one in registry.requests_log()[start:])
                asked = ", ".join(f"{count} {method}" for method, count in sorted(counts.items())) or "nothing"
                print(f"    asked of the {name}: {asked}")
            ok = ok and code == 0
        reports = FOLDER / "reports" / "nightly_sync"
        print(f"\nReports are in {reports.relative_to(ROOT)}, logs in {FOLDER.relative_to(ROOT)}.")
        if with_ui and ok:
            fill_cluster(source.url)
            airflow.serve()
    say("Nothing is left running" if ok else "The demo failed")
    return 0 if ok else 1


def configuration(source: str, destination: str) -> str:
    """Return a configuration that shows whole repositories, tags, a pattern, platforms and several destinations."""
    return f"""\
registries:
  {source}: {{conn_id: source_registry}}
  {destination}: {{conn_id: destination_registry}}
rules:
  # all tags
  - source: {source}/shop/web
    destination: {destination}/mirror/web
  # tags by a pattern, to two places
  - source: {source}/shop/api:/^v2\\./
    destination: [{destination}/mirror/api, {destination}/staging/api]
  # one tag, renamed, for some platforms only
  - source: {source}/base/python:3.12
    destination: {destination}/mirror/python:3.12-arm
    platforms: [linux/arm64]
  # a Helm chart: any OCI artifact is copied
  - source: {source}/charts/shop
    destination: {destination}/charts/shop
"""


def copy_manifests(folder: Path, source: str) -> Path:
    """Copy the example's manifests, with the demo's registry as theirs, and return where they are."""
    folder.mkdir()
    for path in sorted((ROOT / "dags" / "examples").glob("*.yaml")):
        (folder / path.name).write_text(path.read_text().replace("localhost:5001", source))
    return folder


def read_report(path: Path) -> SyncReport | None:
    """Return the report that the DAG wrote."""
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    notes = {(one["source"], one["destination"]): one["note"] for one in document["notes"]}
    images = tuple(
        ImageResult.load({**row, "note": notes.get((row["source"], row["destination"]))}) for row in document["images"]
    )
    return SyncReport(images, seconds=document["totals"]["seconds"])


def say(text: str) -> None:
    """Print what happens next."""
    mark = "\n\033[1m==>\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "\n==>"
    print(f"{mark} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
