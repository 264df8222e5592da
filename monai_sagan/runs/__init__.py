"""The run folder: every file in it, written and read in one place."""
