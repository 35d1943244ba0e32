"""OpenSearch from Maven's jars: the server with its HTTP module, without plugins.

Invariant: it keeps its port and data over a restart. OpenSearch refuses to run as root, so then it
runs as ``nobody``, from copies of the jars that this user may read.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.services import maven
from tests.support.services.service import ProcessService, free_port

POM = Path(__file__).with_name("opensearch_pom.xml")
VERSION = "2.19.1"
UNPRIVILEGED = "nobody"
_MODULE = ("netty-", "transport-netty4-")

_DESCRIPTOR = f"""\
description=Netty 4 based transport implementation
version={VERSION}
name=transport-netty4
classname=org.opensearch.transport.Netty4Plugin
java.version=11
opensearch.version={VERSION}
has.native.controller=false
"""
_POLICY = """\
grant {
  permission java.lang.RuntimePermission "accessDeclaredMembers";
  permission java.net.SocketPermission "*", "accept,connect,resolve,listen";
  permission java.util.PropertyPermission "*", "read,write";
  permission java.lang.RuntimePermission "getClassLoader";
  permission java.lang.RuntimePermission "setContextClassLoader";
  permission java.lang.reflect.ReflectPermission "suppressAccessChecks";
  permission java.io.FilePermission "<<ALL FILES>>", "read";
};
"""
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%p][%c{1}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class OpenSearch(ProcessService):
    """One server with its own data folder."""

    ready_s = 180.0

    def __init__(self) -> None:
        super().__init__("opensearch", free_port())
        self._transport_port = free_port()
        self._home = self.folder / "home"

    @property
    def url(self) -> str:
        """The URL of its HTTP interface."""
        return f"http://{self.address}"

    def prepare(self) -> None:
        if self._home.exists():
            return
        jars = maven.fetch_pom(POM, f"opensearch-{VERSION}")
        module, lib = self._home / "modules" / "transport-netty4", self.folder / "lib"
        for folder in (module, lib, *(self._home / name for name in ("config", "tmp", "plugins"))):
            folder.mkdir(parents=True)
        for jar in jars.glob("*.jar"):
            shutil.copy(jar, module if jar.name.startswith(_MODULE) else lib)
        (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR)
        (module / "plugin-security.policy").write_text(_POLICY)
        config = self._home / "config"
        (config / "log4j2.properties").write_text(_LOGGING)
        given = {
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": self._transport_port,
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }
        (config / "opensearch.yml").write_text(
            "".join(f"{name}: {json.dumps(value)}\n" for name, value in given.items())
        )
        if os.geteuid() == 0:
            self.folder.chmod(0o755)
            for path in (self._home, *self._home.rglob("*")):
                shutil.chown(path, UNPRIVILEGED)

    def command(self) -> list[str]:
        flags = ["-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        flags += ["-Djava.security.manager=allow", "-Dopensearch.distribution.type=tar"]
        flags += [f"-Dopensearch.path.home={self._home}", f"-Djava.io.tmpdir={self._home}/tmp"]
        flags += [f"-Dopensearch.path.conf={self._home}/config", "-Djna.nosys=true"]
        flags.append("-Dlog4j2.disable.jmx=true")
        main = "org.opensearch.bootstrap.OpenSearch"
        command = ["java", *flags, "-cp", f"{self.folder}/lib/*", main]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={UNPRIVILEGED}", "--clear-groups", *command]

    def answers(self) -> bool:
        try:
            health = self.ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
        except OSError:
            return False
        return not health["timed_out"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request as JSON; raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def ids(self, index: str) -> list[str]:
        """Return the ids of all documents of an index, sorted; none without the index."""
        try:
            self.ask("POST", f"/{index}/_refresh")
            found: list[str] = []
            query = {"size": 5000, "sort": ["_doc"], "_source": False}
            page = self.ask("POST", f"/{index}/_search?scroll=1m", query)
            while page["hits"]["hits"]:
                found += [one["_id"] for one in page["hits"]["hits"]]
                scroll = {"scroll": "1m", "scroll_id": page["_scroll_id"]}
                page = self.ask("POST", "/_search/scroll", scroll)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        return sorted(found)
