"""A write in progress: its beginning, its end, and how its progress becomes known."""
