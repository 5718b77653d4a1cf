"""What people look at: plans, finished files, and writes in progress."""
