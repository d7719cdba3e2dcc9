"""Where a pipeline runs: beside the retrainer, as a Kubernetes Job, or on Kubeflow Pipelines."""
