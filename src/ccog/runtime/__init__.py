"""A write in progress: where it begins, when it is aborted, and how its progress becomes known."""
