"""What the commands do, from parsed options to an exit code; those below ``records`` are in `cli.records`."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from airflow_imagesync.cli import files, records, terminal
from airflow_imagesync.cli.exits import EXIT_FAILED, EXIT_OK, EXIT_USAGE, code_of
from airflow_imagesync.cli.options import MARKDOWN_SUFFIXES, RECORDS_COMMANDS, usage_problem, wanted_platforms
from airflow_imagesync.cli.tables import check_view, plan_view, run_view, verify_view
from airflow_imagesync.cli.terminal import is_terminal
from airflow_imagesync.config import Overrides, read_config
from airflow_imagesync.domain import render
from airflow_imagesync.domain.check import check_document
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.report import ImageResult, SyncReport
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.verification import Verification, VerifiedImage
from airflow_imagesync.errors import ConfigError, ImageSyncError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_imagesync.engine.sync import SyncEngine

#: Seconds between two looks at the progress.
TICK = 0.2

Outcome = TypeVar("Outcome", Plan, SyncReport, Verification)


def execute(
    command: str,
    arguments: Namespace,
    *,
    resolve: Callable[[Login], Login],
    usual_records: Callable[[], records.Where],
    output: TextIO | None,
) -> int:
    """Run a command and return its exit code.

    `arguments` are what the options of `command` were parsed to. `resolve` fills in a login that names an
    Airflow connection, and raises ConfigError where it can't. `usual_records` tells where records are where no option
    does, None for nowhere, and may raise ConfigError. `output` leads to standard output; None where that is closed.
    """
    if command in RECORDS_COMMANDS:
        return records.execute_records(command, arguments, usual_records, output)
    problem = usage_problem(arguments)
    if problem:
        terminal.say(f"error: {problem}")
        return EXIT_USAGE
    console = terminal.error_console() if is_terminal(sys.stderr) else None
    terminal.set_up_logging(arguments.verbose, console)
    config, problems = _read(arguments, resolve)
    for warning in config.warnings:
        terminal.say(f"warning: {warning}")
    if command == "check" or problems:
        return _check(arguments, config, problems, output)
    problem = _output_problem(arguments)
    if problem:
        terminal.say(f"error: {problem}")
        return EXIT_USAGE
    try:
        act = {"plan": _plan, "run": _run, "verify": _verify}[command]
        # A verification asks both sides, so what earlier runs learned is not for it.
        where = None if command == "verify" else records.where_of(arguments, usual_records)
        return act(arguments, config, where, console, output)
    except ConfigError as error:  # what only shows when a registry is set up, such as an unreadable ca_file
        return _check(arguments, config, error.problems, output)
    except ImageSyncError as error:
        terminal.say(f"error: {error}")
        return EXIT_FAILED


def _read(arguments: Namespace, resolve: Callable[[Login], Login]) -> tuple[SyncConfig, tuple[Problem, ...]]:
    """Return the configuration with its connections resolved, and every problem of both."""
    result = read_config(
        arguments.config,
        auth=arguments.auth,
        images=arguments.images,
        overrides=Overrides(
            registry=arguments.default_registry,
            namespace=arguments.default_namespace,
            platforms=wanted_platforms(arguments),
            force=getattr(arguments, "force", False),  # verify has none
            concurrency=arguments.concurrency,
            retries=arguments.retries,
            docker_config=arguments.docker_config,
            credential_helpers=arguments.credential_helpers,
        ),
    )
    problems = list(result.problems)

    def resolve_or_note(login: Login) -> Login:
        try:
            return resolve(login)
        except ConfigError as error:
            file = arguments.config or arguments.auth
            problems.extend(replace(one, file=one.file or file) for one in error.problems)
            return login

    return result.config.with_connections(resolve_or_note), tuple(problems)


def _check(arguments: Namespace, config: SyncConfig, problems: tuple[Problem, ...], output: TextIO | None) -> int:
    for one in problems:
        terminal.say(render.one_line(str(one)))
    document = check_document(config, problems)
    if arguments.output == "json":
        code = _write_output(output, render.json_text(document))
    elif not problems:
        code = _write_output(output, check_view(document, terminal=is_terminal(output)))
    else:
        code = EXIT_OK
    return EXIT_USAGE if problems else code


def _plan(
    arguments: Namespace, config: SyncConfig, where: records.Where, console: Console | None, output: TextIO | None
) -> int:
    began = _now()
    plan, interrupted = _watch(arguments, config, where, console, lambda engine: engine.plan())
    if arguments.output == "json":
        text = render.json_text(plan.as_dict())
        _say_failed(pair for pair in plan.images if pair.state is PairState.FAILED)
        terminal.say(render.plan_summary(plan))
    else:
        text = plan_view(plan, all_images=bool(arguments.verbose), terminal=is_terminal(output))
    codes = [interrupted, EXIT_FAILED if plan.totals["failed"] else EXIT_OK, _write_output(output, text)]
    _say_when_to_try_again(plan.images)
    if arguments.report is not None:
        metadata = _metadata(arguments, began, interrupted)
        codes.append(_write_report(arguments.report, plan, metadata, render.plan_markdown, render.plan_document))
    return max(codes)


def _run(
    arguments: Namespace, config: SyncConfig, where: records.Where, console: Console | None, output: TextIO | None
) -> int:
    began = _now()
    report, interrupted = _watch(arguments, config, where, console, lambda engine: engine.run())
    if arguments.report is not None:
        report = render.with_failing(report, files.earlier_report(arguments.report))
    if arguments.output == "json":
        text = render.json_text(report.as_dict())
        _say_failed(report.failed)
        terminal.say(render.report_summary(report))
    else:
        text = run_view(report, all_images=bool(arguments.verbose), terminal=is_terminal(output))
    codes = [interrupted, EXIT_FAILED if report.failed else EXIT_OK, _write_output(output, text)]
    _say_when_to_try_again(report.images)
    if arguments.report is not None:
        metadata = _metadata(arguments, began, interrupted)
        codes.append(_write_report(arguments.report, report, metadata, render.report_markdown, render.report_document))
    if arguments.success_images is not None:
        as_json = arguments.success_images.suffix.lower() == ".json"
        codes.append(_write_file(arguments.success_images, render.success_text(report, as_json=as_json)))
    return max(codes)


def _verify(
    arguments: Namespace, config: SyncConfig, where: records.Where, console: Console | None, output: TextIO | None
) -> int:
    began = _now()
    verification, interrupted = _watch(arguments, config, where, console, lambda engine: engine.verify())
    if arguments.output == "json":
        text = render.json_text(verification.as_dict())
        for one in verification.deviations:
            terminal.say(render.one_line(f"{one.state}: {one.source} -> {one.destination}: {one.error}"))
        terminal.say(render.verification_verdict(verification))
    else:
        text = verify_view(verification, all_images=bool(arguments.verbose), terminal=is_terminal(output))
    codes = [interrupted, EXIT_FAILED if verification.deviations else EXIT_OK, _write_output(output, text)]
    _say_when_to_try_again(verification.images)
    if arguments.report is not None:
        metadata = _metadata(arguments, began, interrupted)
        codes.append(
            _write_report(
                arguments.report, verification, metadata, render.verification_markdown, render.verification_document
            )
        )
    return max(codes)


# --- Running the engine ----------------------------------------------------------------------------------


def _watch(
    arguments: Namespace,
    config: SyncConfig,
    where: records.Where,
    console: Console | None,
    work: Callable[[SyncEngine], Outcome],
) -> tuple[Outcome, int]:
    """Do `work` with the records in `where`, and show its progress; return what it returned, and the exit code of an
    interrupt or 0.

    The engine works in a thread of its own, so that this one is free for signals.
    """
    from airflow_imagesync.cli.progress import open_display  # noqa: PLC0415 - the engine is slow to import,
    from airflow_imagesync.engine.progress import Progress  # noqa: PLC0415 - and check and --help have no
    from airflow_imagesync.engine.sync import SyncEngine  # noqa: PLC0415 - need of it

    progress = Progress()
    with (
        _Interrupts() as interrupts,
        records.open_for_run(where) as kept,
        SyncEngine(config, progress=progress, longest_wait=arguments.max_wait, records=kept) as engine,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine") as pool,
    ):
        display = open_display(console)
        try:
            future = pool.submit(work, engine)
            stopping = False
            while not wait([future], timeout=TICK).done:
                display.update(progress.snapshot(), engine.held)
                if interrupts.number is not None and not stopping:
                    stopping = True
                    display.note("stopping; interrupt again to end at once")
                    engine.cancel()
        except BaseException:
            engine.cancel()
            raise
        finally:
            display.close()
        return future.result(), interrupts.exit_code


class _Interrupts:
    """Takes note of the first SIGINT or SIGTERM; the second one ends the process."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects from a process that a signal ended; 0 when there was none."""
        return 0 if self.number is None else 128 + self.number

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell starts background jobs with SIGINT ignored, and that is to stay.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what signals pass
        if self.number is not None:
            if is_terminal(sys.stderr):
                os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the live display hides the cursor
            os._exit(128 + number)
        self.number = number


# --- Output ----------------------------------------------------------------------------------------------


def _output_problem(arguments: Namespace) -> str | None:
    """Return why one of the output files can't be written, or None."""
    outputs = [path for path in (arguments.report, _success_images(arguments)) if path is not None]
    inputs = [Path(one) for one in (arguments.config, arguments.auth, arguments.images) if one is not None]
    if len(outputs) == 2 and files.same_file(*outputs):
        return f"--report and --output-success-images both name {outputs[0]}"
    for path in outputs:
        if any(files.same_file(path, one) for one in inputs):
            return f"can't write {path}: it is the configuration"
    return next(filter(None, map(files.writing_problem, outputs)), None)


def _success_images(arguments: Namespace) -> Path | None:
    path: Path | None = getattr(arguments, "success_images", None)  # only run has it
    return path


def _say_failed(failed: Iterable[ImagePair | ImageResult]) -> None:
    """Name what failed to a person, where standard output is for a program."""
    for one in failed:
        terminal.say(render.one_line(f"failed: {one.source} -> {one.destination}: {one.error}"))


def _say_when_to_try_again(images: Iterable[ImagePair | ImageResult | VerifiedImage]) -> None:
    """Tell a person what to do about failures that a registry's limit made."""
    times = [one.retry_at for one in images if one.retry_at is not None]
    if times:
        minutes = max(1, math.ceil((max(times) - time.time()) / 60))
        wait = f"{minutes}m" if minutes < 60 else f"{math.ceil(minutes / 60)}h"
        terminal.say(
            f"{render.count_of(len(times), 'image')} failed for a registry's limit, which asks to wait until "
            f"{render.utc_time(max(times))}: run again then, or have a run wait with --max-wait {wait}"
        )


def _write_output(output: TextIO | None, text: str) -> int:
    return code_of(terminal.write_output(output, text))


def _write_file(path: Path, text: str) -> int:
    return code_of(files.write_file(path, text))


def _write_report(
    path: Path,
    outcome: Outcome,
    metadata: dict[str, Any],
    markdown: Callable[[Outcome, dict[str, Any]], str],
    document: Callable[[Outcome, dict[str, Any]], dict[str, Any]],
) -> int:
    """Write a report in the form that its file's suffix names."""
    as_markdown = path.suffix.lower() in MARKDOWN_SUFFIXES
    return _write_file(
        path, markdown(outcome, metadata) if as_markdown else render.json_text(document(outcome, metadata))
    )


def _metadata(arguments: Namespace, began: datetime, interrupted: int) -> dict[str, Any]:
    sources: Iterable[str | None] = (arguments.config, arguments.auth, arguments.images)
    metadata: dict[str, Any] = {
        "configuration": ", ".join(one for one in sources if one),
        "began": began.isoformat(timespec="seconds"),
        "ended": _now().isoformat(timespec="seconds"),
    }
    if interrupted:
        metadata["interrupted"] = True
    return metadata


def _now() -> datetime:
    return datetime.now(UTC)
