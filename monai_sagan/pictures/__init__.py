"""Pictures of images and their anomaly maps, on one color scale."""
