"""Models in files: our own format, and weights with torchvision's names."""
