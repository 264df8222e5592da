"""Datasets in each layout, as lists of items."""
