#!/usr/bin/env bash
# Apicurio's Confluent-compatible API treats a schema with other white space as a new version.
#
# Software: Apicurio Registry 2.6.13.Final.
#
# Expected: as in Confluent's registry, a schema is parsed and compared as JSON, so that a deploy
#   step which registers the .avsc file and a producer whose library sends the schema without line
#   breaks mean one version and one id. A producer that may not register (`auto.register.schemas`
#   off) looks up and finds it.
# Instead: the text's hash decides. The compact text is "not found" although the file is
#   registered, and registering it makes version 2 with an id of its own. Ids stand in the
#   records, so a consumer that allows the known ids only refuses records of an unchanged schema.
#   A client that sends `normalize=true` is spared, and so is everybody where the registry's
#   environment has ENABLE_CCOMPAT_CANONICAL_HASH_MODE=true.
#
# Seen:
#   default   file: id 1; compact: look-up 404 40403, normalized id 1, registered id 2
#   default   versions [1, 2]
#   canonical file: id 1; compact: look-up id 1, normalized id 1, registered id 1
#   canonical versions [1]
#
# Source: Apicurio/apicurio-registry issues 2279 and 4831, pull request 7439 (which changes
#   look-ups in a later version); Confluent's Schema Registry parses what it is sent before it
#   compares.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/ask.py" <<'PY'
import json, sys, urllib.error, urllib.request

FILE = """{
  "type": "record",
  "name": "Reading",
  "fields": [{"name": "celsius", "type": "double"}]
}
"""
COMPACT = json.dumps(json.loads(FILE), separators=(",", ":"))
registry = sys.argv[1] + "/apis/ccompat/v7/subjects/readings-value"


def ask(path, schema=None):
    body = json.dumps({"schema": schema}).encode() if schema else None
    kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(registry + path, body, kind)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {"id": None, "shown": f"{error.code} {json.load(error)['error_code']}"}


def shown(answer):
    return answer.get("shown") or f"id {answer['id']}"


file = ask("/versions", FILE)
found, normalized = ask("", COMPACT), ask("?normalize=true", COMPACT)
registered = ask("/versions", COMPACT)
versions = ask("/versions")
name = f"{sys.argv[2]:9}"
print(f"{name} file: {shown(file)}; compact: look-up {shown(found)}, normalized "
      f"{shown(normalized)}, registered {shown(registered)}")
print(name, "versions", versions)
one = sys.argv[2] == "canonical"
assert normalized["id"] == file["id"], "changed"
assert found["id"] == (file["id"] if one else None), "changed"
assert versions == ([1] if one else [1, 2]), "changed"
assert (registered["id"] == file["id"]) == one, "changed"
PY

start_apicurio
python3 "$WORK/ask.py" "$REGISTRY_URL" default
export ENABLE_CCOMPAT_CANONICAL_HASH_MODE=true
start_apicurio
python3 "$WORK/ask.py" "$REGISTRY_URL" canonical
