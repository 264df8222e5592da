"""The names of the files and folders in output folders: of runs, prepared datasets and caches of images."""

CONFIG = "config.json"
LOG = "log.txt"
SPLITS = "splits.json"
AUDIT = "audit.json"
SKIPPED = "skipped.csv"
HISTORY = "history.csv"
COST = "cost.json"
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

PREPARED = "prepared.json"  # how a prepared dataset was begun
PREPARED_JOURNAL = "prepared.jsonl"  # its images so far

CACHED_PIXELS = "pixels.npy"
CACHED_IMAGES = "images.json"  # the description of each

PREDICTION = "predict.json"  # the model and the folder of scored images
JOURNAL = "predicted.jsonl"  # their results so far
OVERLAYS = "overlays"
