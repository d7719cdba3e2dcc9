"""The model as files: the bundle, the registry that keeps versions, and what a model answers. No torch, no mlflow."""
