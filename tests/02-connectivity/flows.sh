#!/usr/bin/env bash
# Who reaches whom: what each component needs, asked from inside its own pod.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

resolves() { in_pod "$1" "$2" python3 -c 'import socket, sys; socket.getaddrinfo(sys.argv[1], 80)' "$3"; }
server=app.kubernetes.io/name=driftloop-server watch=app.kubernetes.io/name=driftloop-watch
retrainer=app.kubernetes.io/name=driftloop-retrainer

fact "the prediction server resolves a name of another namespace" resolves "$serving" "$server" "mlflow.$mlflow.svc"
fact "the prediction server reaches MLflow" pod_reaches "$serving" "$server" "mlflow.$mlflow.svc" 5000
fact "the drift watch reaches Prometheus" pod_reaches "$serving" "$watch" "prometheus.$monitoring.svc" 9090
fact "the drift watch reaches MLflow" pod_reaches "$serving" "$watch" "mlflow.$mlflow.svc" 5000
fact "the drift watch reaches the retrainer" pod_reaches "$serving" "$watch" "driftloop-retrainer.$serving.svc" 8600
fact "the retrainer reaches MLflow" pod_reaches "$serving" "$retrainer" "mlflow.$mlflow.svc" 5000
fact "the retrainer reaches the object store" pod_reaches "$serving" "$retrainer" "$store.$storage.svc" 9000
fact "the retrainer reaches the prediction server" pod_reaches "$serving" "$retrainer" "driftloop-server.$serving.svc" 8500
console=app.kubernetes.io/name=driftloop-console units=app.kubernetes.io/name=driftloop-units
fact "the console reaches the retrainer" pod_reaches "$serving" "$console" "driftloop-retrainer.$serving.svc" 8600
fact "the console reaches the fleet in service" pod_reaches "$serving" "$console" "driftloop-units.$serving.svc" 8700
fact "the fleet in service reaches PostgreSQL" pod_reaches "$serving" "$units" "postgres.$storage.svc" 5432
fact "the fleet in service reaches the prediction server" pod_reaches "$serving" "$units" "driftloop-server.$serving.svc" 8500
fact "the fleet in service reaches the retrainer" pod_reaches "$serving" "$units" "driftloop-retrainer.$serving.svc" 8600
fact "MLflow reaches PostgreSQL" pod_reaches "$mlflow" app.kubernetes.io/name=mlflow "postgres.$storage.svc" 5432
fact "MLflow reaches the object store" pod_reaches "$mlflow" app.kubernetes.io/name=mlflow "$store.$storage.svc" 9000
true
