#!/usr/bin/env bash
# Builds the brokers that the tests of the streams talk to, once, into ~/.cache/driftloop-brokers: nats-server from its
# Go module, Kafka from its jars on Maven Central. Needs go, java and mvn.
set -euo pipefail
NATS=2.15.2
KAFKA=4.1.1
CACHE="${DRIFTLOOP_BROKERS:-$HOME/.cache/driftloop-brokers}"
mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9

if [ ! -x "$CACHE/nats-server-$NATS" ]; then
  build="$(mktemp -d "$CACHE/build.XXXXXX")"
  GOBIN="$build" CGO_ENABLED=0 GOFLAGS=-trimpath go install "github.com/nats-io/nats-server/v2@v$NATS"
  mv "$build/nats-server" "$CACHE/nats-server-$NATS"
  rmdir "$build"
fi

if [ ! -d "$CACHE/kafka-$KAFKA" ]; then
  build="$(mktemp -d "$CACHE/build.XXXXXX")"
  cat >"$build/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>brokers</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$build/pom.xml" dependency:copy-dependencies -DoutputDirectory="$build/jars" -DincludeScope=runtime
  mv "$build/jars" "$CACHE/kafka-$KAFKA"
  rm -r "$build"
fi
echo "$CACHE/nats-server-$NATS"
echo "$CACHE/kafka-$KAFKA"
