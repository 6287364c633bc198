"""The signatures are those of Airflow's providers, which are not installed here but for SMTP's."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_imagesync.errors import ConfigError
from airflow_imagesync.notifications.backend import Backend
from airflow_imagesync.notifications.message import Message

MESSAGE = Message("the subject", ("the subject", "a <!channel> & @everyone @sha256:1"), "https://a.io/?b&c")
TEXT = "the subject\na <!channel> & @everyone @sha256:1\nSee https://a.io/?b&c"


def notifier(name: str, module: str, arguments: str) -> type[BaseNotifier]:
    """Make a class of notifiers that takes these arguments, as a provider would have it."""
    names: dict[str, Any] = {}
    parameters = [one.partition("=")[0].strip(" *") for one in arguments.split(",")]
    keep = "".join(f"\n    self.{one} = {one}" for one in parameters if one and one != "kwargs")
    exec(f"def __init__(self, {arguments}):\n    super(type(self), self).__init__(){keep}", names)
    init = names["__init__"]

    def notify(self: Any, context: Any) -> None:
        context.append(vars(self))

    return type(name, (BaseNotifier,), {"__init__": init, "notify": notify, "__module__": module})


def told(made: type[BaseNotifier], **arguments: Any) -> dict[str, Any]:
    fields = {key: arguments.pop(key, None) for key in ("message_field", "subject_field")}
    context: list[dict[str, Any]] = []
    Backend(made, arguments, **fields).notify(arguments, MESSAGE, context)
    return context[0]


@pytest.mark.parametrize(
    ("signature", "arguments", "expected"),
    [
        ("*, aws_conn_id=None, target_arn, message, subject=None", {"target_arn": "arn"}, {"message": TEXT}),
        ("*, queue_url, message_body, delay_seconds=0", {"queue_url": "u"}, {"message_body": TEXT}),
        ("*, chime_conn_id, message=''", {"chime_conn_id": "c"}, {"message": TEXT}),
        ("*, body, title=None, notify_type='info'", {}, {"body": TEXT, "title": "the subject"}),
        (
            "*, summary, severity, source='airflow', custom_details=None",
            {"severity": "error"},
            {"custom_details": TEXT, "summary": "the subject"},
        ),
        ("*, description, summary, project_id", {"project_id": 1}, {"description": TEXT, "summary": "the subject"}),
        (
            "*, payload, opsgenie_conn_id='o'",
            {"payload": {"priority": "P1"}},
            {"payload": {"priority": "P1", "message": "the subject", "description": TEXT}},
        ),
        ("*, payload", {}, {"payload": {"message": "the subject", "description": TEXT}}),
        ("*, note, head", {"message_field": "note", "subject_field": "head"}, {"note": TEXT, "head": "the subject"}),
    ],
    ids=["sns", "sqs", "chime", "apprise", "pagerduty", "jira", "opsgenie", "opsgenie-bare", "named"],
)
def test_the_text_goes_where_the_backend_takes_it(
    signature: str, arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert told(notifier("Some", "some.provider", signature), **arguments).items() >= expected.items()


def test_slack_calls_nobody() -> None:
    made = notifier("SlackNotifier", "airflow.providers.slack.notifications.slack", "*, text='', channel='#general'")
    text = told(made)["text"]
    assert text == "the subject\na &lt;!channel&gt; &amp; @everyone @sha256:1\nSee https://a.io/?b&amp;c"


def test_discord_calls_nobody() -> None:
    made = notifier("DiscordNotifier", "airflow.providers.discord.notifications.discord", "text=None, description=''")
    assert told(made)["text"] == TEXT.replace("@everyone", "@\N{ZERO WIDTH SPACE}everyone")


def test_html_is_html() -> None:
    made = notifier("SesNotifier", "airflow.providers.amazon.aws.notifications.ses", "*, to, subject, html_content")
    assert told(made, to="me")["html_content"] == (
        "the subject<br>\na &lt;!channel&gt; &amp; @everyone @sha256:1<br>\n"
        'See <a href="https://a.io/?b&amp;c">https://a.io/?b&amp;c</a>'
    )


def test_a_backend_that_does_not_show_where_the_text_goes_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"Odd does not show .*; give message_field, one of note, head"):
        Backend(notifier("Odd", "odd", "*, note=None, head=None"), {})
