"""The room of the model: regimes, network, training, intervals, export, the bundle and its record.

The only room with torch (network, training, export) and the only one with mlflow (record). `metrics`, `regimes`
and `intervals` stand on numpy, `answers` and `build.rebuild_baseline` on ONNX Runtime.
"""
