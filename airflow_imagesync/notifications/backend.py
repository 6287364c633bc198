"""Handing a message to one of Airflow's notifiers, in the words and the notation that it takes."""

from __future__ import annotations

import asyncio
import html
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import BaseNotifier

from airflow_imagesync.errors import ConfigError
from airflow_imagesync.notifications.message import Message

#: What notifiers call their text, the likelier name first; behind a dot, a key of a mapping.
#: Slack, Discord: text. Amazon SNS, Chime: message; SQS: message_body; SES and SMTP: html_content. Apprise: body.
#: PagerDuty: custom_details. Jira: description. Opsgenie: payload.
MESSAGE_FIELDS = (
    "text",
    "message",
    "html_content",
    "body",
    "message_body",
    "content",
    "custom_details",
    "description",
    "payload.description",
)
SUBJECT_FIELDS = ("subject", "title", "summary", "payload.message")
#: Who would be called by what a registry wrote.
_MENTION = re.compile(r"@(?=everyone|here|[!&]?[0-9])")


class Backend:
    """
    A class of notifiers that texts are handed to.

    :param notifier: the class, or the path to import it by
    :param arguments: its arguments besides the message
    :param message_field: the name of the argument that takes the text; None to find it
    :param subject_field: the name of the argument that takes the subject; None to find it, if there is one
    :raises ConfigError: when it can't be imported, is no notifier, takes other arguments, or does not show which one
        takes the text
    """

    def __init__(
        self,
        notifier: str | type[BaseNotifier],
        arguments: Mapping[str, Any],
        *,
        message_field: str | None = None,
        subject_field: str | None = None,
    ) -> None:
        self.notifier = _imported(notifier)
        self.name = self.notifier.__name__
        self._signature = inspect.signature(self.notifier)
        self._message_field = message_field or self._find(MESSAGE_FIELDS)
        if self._message_field is None:
            raise ConfigError(
                f"{self.name} does not show which of its arguments takes the text; "
                f"give message_field, one of {', '.join(self._signature.parameters)}"
            )
        if _taken(self._message_field, arguments):
            raise ConfigError(f"leave out {self._message_field}: what {self.name} gets there is the message")
        self._subject_field = subject_field or self._find(SUBJECT_FIELDS)
        if self._subject_field is not None and _taken(self._subject_field, arguments):
            self._subject_field = None
        try:
            self._ready(arguments, Message("", ()))  # else a slip of the pen shows when there is something to tell
        except TypeError as error:
            raise ConfigError(f"{self.name} does not take these arguments: {error}") from error

    def is_template(self, name: str) -> bool:
        """
        Whether the backend renders an argument.

        :param name: the argument
        """
        return name in self.notifier.template_fields

    def notify(self, arguments: Mapping[str, Any], message: Message, context: Any) -> None:
        """
        Send a message.

        :param arguments: the notifier's other arguments, rendered
        :param message: the message
        :param context: Airflow's context
        """
        notifier = self._ready(arguments, message)
        if self._has("notify"):
            notifier.notify(context)
        else:
            asyncio.run(notifier.async_notify(context))

    async def async_notify(self, arguments: Mapping[str, Any], message: Message, context: Any) -> None:
        """
        Send a message from the triggerer, in a thread where the notifier knows no other way.

        :param arguments: the notifier's other arguments, rendered
        :param message: the message
        :param context: Airflow's context
        """
        from asgiref.sync import sync_to_async

        notifier = self._ready(arguments, message)
        if self._has("async_notify"):
            await notifier.async_notify(context)
        else:
            # Airflow's hooks in it find the triggerer's loop, which asyncio.to_thread would hide.
            await sync_to_async(notifier.notify, thread_sensitive=False)(context)

    def _ready(self, arguments: Mapping[str, Any], message: Message) -> BaseNotifier:
        # Not called but told to notify: a call renders templates, and the message quotes what registries answered.
        return self.notifier(**self._with_message(arguments, message))

    def _with_message(self, arguments: Mapping[str, Any], message: Message) -> dict[str, Any]:
        write = self._notation()
        found = _set(dict(arguments), str(self._message_field), write(message))
        if self._subject_field is not None:
            found = _set(found, self._subject_field, message.subject)
        return found

    def _notation(self) -> Callable[[Message], str]:
        module = self.notifier.__module__
        if str(self._message_field).rpartition(".")[2].startswith("html"):
            return _as_html
        if module.startswith("airflow.providers.slack."):
            return lambda message: html.escape(message.text, quote=False)  # else <!channel> calls everybody
        if module.startswith("airflow.providers.discord."):
            return lambda message: _MENTION.sub("@\N{ZERO WIDTH SPACE}", message.text)
        return lambda message: message.text

    def _find(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name.partition(".")[0] in self._signature.parameters), None)

    def _has(self, method: str) -> bool:
        return getattr(self.notifier, method) is not getattr(BaseNotifier, method)


def _imported(notifier: str | type[BaseNotifier]) -> type[BaseNotifier]:
    found: object = notifier
    if isinstance(notifier, str):
        module, _, name = notifier.strip().rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"the notification backend {notifier!r} can't be imported: {error}; "
                "expected the path of a notifier's class, and the provider that brings it"
            ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise ConfigError(f"the notification backend {notifier!r} is no notifier; expected a subclass of BaseNotifier")
    return found


def _taken(field: str, arguments: Mapping[str, Any]) -> bool:
    name, dot, key = field.partition(".")
    return name in arguments and (not dot or key in (arguments[name] or {}))


def _set(arguments: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    name, dot, key = field.partition(".")
    return {**arguments, name: {**(arguments.get(name) or {}), key: value} if dot else value}


def _as_html(message: Message) -> str:
    lines = [html.escape(line) for line in message.lines]
    if message.link:
        link = html.escape(message.link)
        lines.append(f'See <a href="{link}">{link}</a>')
    return "<br>\n".join(lines)
