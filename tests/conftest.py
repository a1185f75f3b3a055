"""Fixtures that several test files share."""

from q4_world import world  # noqa: F401
