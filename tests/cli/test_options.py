from __future__ import annotations

import argparse

import pytest

from airflow_imagesync.cli import options
from airflow_imagesync.cli.options import COMMANDS, build_parser, usage_problem, wanted_platforms
from airflow_imagesync.domain.platform import Platform


def parse(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_what_changes_the_configuration(command: str) -> None:
    arguments = parse(
        command,
        *("--auth", "auth.json", "--images", "images.json"),
        *(
            "--concurrency",
            "4",
            "--retries",
            "0",
            "--platform",
            "linux/amd64",
            "--os",
            "linux",
            "--arch",
            "arm64",
        ),
        *("--default-registry", "r.io", "--default-namespace", "mirror", "-o", "json", "-vv"),
        *("--docker-config", "--credential-helpers"),
    )
    assert (arguments.docker_config, arguments.credential_helpers) == (True, True)
    assert (arguments.concurrency, arguments.retries) == (4, 0)
    assert (arguments.default_registry, arguments.default_namespace) == ("r.io", "mirror")
    assert (arguments.output, arguments.verbose) == ("json", 2)
    assert usage_problem(arguments) is None


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_what_copies_may_be_forced(command: str) -> None:
    assert parse(command, "c.yaml", "--force").force is True
    assert parse(command, "c.yaml").force is False


def test_proc_is_image_syncers_word_for_concurrency() -> None:
    assert parse("run", "c.yaml", "--proc", "6").concurrency == 6
    assert parse("run", "c.yaml", "--proc=6").concurrency == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["--platform", "linux/amd64, linux/arm/v7"], ["linux/amd64", "linux/arm/v7"], id="commas"),
        pytest.param(
            ["--platform", "linux/amd64", "--platform", "linux/arm64", "--platform", "linux/amd64"],
            ["linux/amd64", "linux/arm64"],
            id="repeated",
        ),
        pytest.param(["--os", "linux"], ["linux/*"], id="os"),
        pytest.param(["--arch", "arm:v7"], ["*/arm/v7"], id="arch-with-variant"),
        pytest.param(
            ["--os", "linux", "--os", "Windows", "--arch", "amd64", "--arch", "arm64"],
            ["linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"],
            id="os-and-arch-combine",
        ),
        pytest.param(["--os", "", "--arch", "amd64,,"], ["*/amd64"], id="empty-items-are-dropped"),
        pytest.param(["--platform", "linux/s390x", "--arch", "amd64"], ["linux/s390x", "*/amd64"], id="both-spellings"),
    ],
)
def test_platforms(options: list[str], expected: list[str]) -> None:
    assert [str(one) for one in wanted_platforms(parse("run", "c.yaml", *options))] == expected


def test_os_version_is_kept() -> None:
    assert wanted_platforms(parse("run", "c.yaml", "--os", "windows:10.0.17763", "--arch", "amd64")) == (
        Platform("windows", "amd64", "", "10.0.17763"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "c.yaml", "--concurrency", "0"], "'0' is not a whole number from 1 to 256"),
        (["run", "c.yaml", "--proc", "many"], "'many' is not a whole number"),
        (["plan", "c.yaml", "--retries", "-1"], "'-1' is not a whole number from 0"),
        (["run", "c.yaml", "--retries", "1.5"], "'1.5' is not a whole number"),
        (["check", "c.yaml", "--platform", "linux"], "'linux' is not a platform"),
        (["run", "c.yaml", "--os", ":10"], "':10' names nothing before the colon"),
        (["run", "c.yaml", "--report", "report.txt"], "'report.txt' ends neither in .json nor in .md"),
        (["run", "c.yaml", "--report", "json"], "'json' ends neither"),
        (["run", "c.yaml", "-o", "yaml"], "invalid choice: 'yaml'"),
        (["plan", "c.yaml", "--output-success-images", "s.yaml"], "unrecognized arguments"),
        (["copy", "c.yaml"], "invalid choice: 'copy'"),
        (["run", "c.yaml", "--no-such-option"], "unrecognized arguments"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_option_exits_2_and_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["c.yaml"], None),
        (["--images", "i.yaml"], None),
        (["--auth", "a.yaml", "--images", "i.yaml"], None),
        ([], "give CONFIG, or --images (with --auth for the logins)"),
        (["--auth", "a.yaml"], "give CONFIG, or --images (with --auth for the logins)"),
        (["c.yaml", "--images", "i.yaml"], "give either CONFIG or --auth and --images, not both"),
        (["c.yaml", "--auth", "a.yaml"], "give either CONFIG or --auth and --images, not both"),
    ],
)
def test_which_files_go_together(arguments: list[str], problem: str | None) -> None:
    assert usage_problem(parse("check", *arguments)) == problem


def test_limits_are_those_of_the_configuration() -> None:
    from airflow_imagesync.config import schema

    assert (options.MAX_CONCURRENCY, options.MAX_RETRIES) == (schema.MAX_CONCURRENCY, schema.MAX_RETRIES)
