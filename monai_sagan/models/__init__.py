"""Trained models: their files, their scorers and their facts."""
