# Sourced by every finding: a temporary folder, pinned packages in it, real services, and their end.
#
# Invariant: whatever is started or written here is gone when the script exits, however it exits.

set -euo pipefail

WORK=$(mktemp -d "${TMPDIR:-/tmp}/finding.XXXXXX")
STARTED=()

KAFKA_VERSION=4.3.1
APICURIO_VERSION=2.6.13.Final
DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
JAVA_FLAGS=(-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1)
JAVA_FLAGS+=(-Dorg.slf4j.simpleLogger.defaultLogLevel=warn)

# gone PID: wait until a process that was killed no longer exists.
gone() {
    while kill -0 "$1" 2>/dev/null; do
        sleep 0.1
    done
}

# started PID: have it killed at the end, and let bash not report that.
started() {
    disown "$1"
    STARTED+=("$1")
}

clean_up() {
    local pid
    for pid in "${STARTED[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
        gone "$pid"
    done
    rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# python_packages NAME==VERSION...: a virtual environment with these, run by `py`.
python_packages() {
    python3 -m venv "$WORK/python"
    "$WORK/python/bin/python" -m pip install -q --disable-pip-version-check "$@"
}

py() {
    "$WORK/python/bin/python" -W ignore "$@"
}

# maven_files FOLDER GROUP:ARTIFACT:VERSION[:TYPE:CLASSIFIER]...: these and what they need at run
# time; of an artifact with a classifier the file alone.
maven_files() {
    local folder=$1 group artifact version type classifier
    shift
    mkdir -p "$WORK/$folder.pom"
    {
        echo '<project><modelVersion>4.0.0</modelVersion><groupId>findings</groupId>'
        echo '<artifactId>files</artifactId><version>1</version><packaging>pom</packaging>'
        echo '<dependencies>'
        for coordinates in "$@"; do
            IFS=: read -r group artifact version type classifier <<<"$coordinates"
            echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId>"
            echo "<version>$version</version>"
            if [[ -n $classifier ]]; then
                echo "<type>$type</type><classifier>$classifier</classifier><exclusions><exclusion>"
                echo '<groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>'
            fi
            echo '</dependency>'
        done
        echo '</dependencies></project>'
    } >"$WORK/$folder.pom/pom.xml"
    (cd "$WORK/$folder.pom" && mvn -q -B "$DEPENDENCY_PLUGIN:copy-dependencies" \
        -DoutputDirectory="$WORK/$folder" -DincludeScope=runtime >"$WORK/mvn.log" 2>&1) ||
        { cat "$WORK/mvn.log" >&2; return 1; }
}

# run_java FOLDER FILE.java ARGUMENT...: compile and run one source file; needs a JDK.
run_java() {
    local folder=$1
    shift
    java "${JAVA_FLAGS[@]}" -cp "$WORK/$folder/*" "$@" 2> >(grep -v '^SLF4J' >&2)
}

free_port() {
    python3 -c 'import socket
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    print(probe.getsockname()[1])'
}

# wait_for_port PORT PID LOG: until something listens; fails with the log where it ends before.
wait_for_port() {
    for _ in $(seq 300); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
            return
        fi
        kill -0 "$2" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 30 "$3" >&2
    return 1
}

# prepare_kafka [ADVERTISED_PORT]: one node, broker and controller in one process; sets KAFKA_PORT.
prepare_kafka() {
    local controller
    maven_files kafka "org.apache.kafka:kafka_2.13:$KAFKA_VERSION" \
        "org.apache.kafka:kafka-tools:$KAFKA_VERSION" org.slf4j:slf4j-simple:1.7.36
    KAFKA_PORT=$(free_port)
    controller=$(free_port)
    cat >"$WORK/kafka.properties" <<-PROPERTIES
	process.roles=broker,controller
	node.id=1
	controller.quorum.voters=1@127.0.0.1:$controller
	listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$controller
	advertised.listeners=PLAINTEXT://127.0.0.1:${1:-$KAFKA_PORT}
	controller.listener.names=CONTROLLER
	listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
	log.dirs=$WORK/kafka-data
	offsets.topic.replication.factor=1
	offsets.topic.num.partitions=1
	transaction.state.log.replication.factor=1
	transaction.state.log.min.isr=1
	transaction.state.log.num.partitions=1
	share.coordinator.state.topic.replication.factor=1
	share.coordinator.state.topic.min.isr=1
	group.initial.rebalance.delay.ms=0
	PROPERTIES
    java "${JAVA_FLAGS[@]}" -cp "$WORK/kafka/*" kafka.tools.StorageTool format \
        -t 5L6g3nShT-eMCtK--X86sw -c "$WORK/kafka.properties" >"$WORK/kafka.log" 2>&1
}

# run_kafka: start what prepare_kafka prepared, or start it again; sets KAFKA_PID.
run_kafka() {
    java "${JAVA_FLAGS[@]}" -cp "$WORK/kafka/*" kafka.Kafka "$WORK/kafka.properties" \
        >>"$WORK/kafka.log" 2>&1 &
    KAFKA_PID=$!
    started "$KAFKA_PID"
    wait_for_port "$KAFKA_PORT" "$KAFKA_PID" "$WORK/kafka.log"
}

# start_apicurio: a registry that keeps everything in memory; sets REGISTRY_URL.
start_apicurio() {
    local port jar pid
    maven_files apicurio "io.apicurio:apicurio-registry-app:$APICURIO_VERSION:tar.gz:all"
    tar -xzf "$WORK"/apicurio/*.tar.gz -C "$WORK/apicurio"
    jar=$(find "$WORK/apicurio" -name 'apicurio-registry-app-*-runner.jar')
    port=$(free_port)
    java "${JAVA_FLAGS[@]}" -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
        -jar "$jar" >"$WORK/apicurio.log" 2>&1 &
    pid=$!
    started "$pid"
    REGISTRY_URL=http://127.0.0.1:$port
    wait_for_port "$port" "$pid" "$WORK/apicurio.log"
}
