"""Image files of each format, decoded in processes of their own."""
