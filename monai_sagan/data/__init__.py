"""Readers, splits, the decoded cache and the batches."""
