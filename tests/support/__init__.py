"""What several test modules share; registries and images come from devtools."""

USER = "alice"
PASSWORD = "correct-horse-battery"
