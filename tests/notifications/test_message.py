from __future__ import annotations

from airflow_imagesync.notifications.message import MAX_SUBJECT, MAX_TEXT, message_of


def test_names_and_texts_of_any_length_make_a_bounded_message_with_its_link() -> None:
    link = "https://airflow.example.com/" + "x" * 600
    failed = [["s" * 255, "d" * 255, "e" * 5000] for _ in range(20)]
    report = {"summary": "1 image", "failed": failed, "failed_count": 1000}
    message = message_of("failed", "d" * 250, "r" * 250, [("", report)] * 20, link)
    assert len(message.subject) <= MAX_SUBJECT
    assert len(message.text) <= MAX_TEXT
    assert message.text.endswith(f"\nSee {link}")
    assert "\n1 image\n" in message.text


def test_what_others_wrote_stays_on_its_line() -> None:
    failed = [["a\nb", "c", "one\r\ntwo\x1b[31m\u202e"]]
    message = message_of("failed", "dag", "run\nSee http://evil", [("", {"summary": "x", "failed": failed})], None)
    assert message.text.splitlines() == [
        "Image sync failed: dag",
        "Run run See http://evil",
        "x",
        "- a b -> c: one two\\x1b[31m\\u202e",
    ]


def test_parts_of_a_run_are_told_by_name() -> None:
    parts = [("east", {"summary": "1 image"}), ("west", {"summary": "2 images"})]
    assert message_of("done", "dag", "run", parts, None).lines[2:] == ("east: 1 image", "west: 2 images")
