"""Trained models: in files, ready to score, and what is known of them."""
