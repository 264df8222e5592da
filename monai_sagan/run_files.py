"""The names of the files and folders that a run writes into its ``output_dir``."""

CONFIG = "config.json"
LOG = "log.txt"
SPLITS = "splits.json"
AUDIT = "audit.json"
SKIPPED = "skipped.csv"
HISTORY = "history.csv"
CHECKPOINT = "checkpoint.pt"
MODEL = "model.pt"
LAST_MODEL = "model_last.pt"
ORACLE_MODEL = "model_oracle_test.pt"
SCORES = "scores.csv"
METRICS = "metrics.json"
HEATMAPS = "heatmaps"
GALLERY = "gallery"  # in HEATMAPS
CASES = "gallery.json"  # in GALLERY
REPORT = "report.html"
