"""A Tomcat that tests start: one of their own, on ports that the kernel chooses."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.conftest import Program

TOMCAT = "/usr/share/tomcat10/bin/catalina.sh"

SERVER_XML = """
<Server port="-1">
  <Service name="Catalina">
    {connectors}
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false">
        {contexts}
      </Host>
    </Engine>
  </Service>
</Server>
"""

# What Tomcat itself has in conf/web.xml, as far as it is needed.
WEB_XML = """
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
  </servlet>
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
  <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern></servlet-mapping>
  <mime-mapping><extension>html</extension><mime-type>text/html</mime-type></mime-mapping>
  <mime-mapping><extension>gif</extension><mime-type>image/gif</mime-type></mime-mapping>
  <welcome-file-list><welcome-file>index.html</welcome-file></welcome-file-list>
</web-app>
"""


@contextmanager
def run_tomcat(program: str, base: Path, connectors: str, *, contexts: str = "") -> Iterator[list[int]]:
    """Tomcat in the directory *base*, its applications below ``webapps``; the ports of its connectors."""
    for name in ("conf", "logs", "temp", "work", "webapps"):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "conf/web.xml").write_text(WEB_XML)
    (base / "conf/server.xml").write_text(SERVER_XML.format(connectors=connectors, contexts=contexts))
    # Nothing of it is optimised for longer than the tests take.
    options = "-Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.security.egd=file:/dev/urandom"
    env = {**os.environ, "CATALINA_BASE": str(base), "CATALINA_OPTS": options}
    env.pop("CATALINA_HOME", None)
    with Program([program, "run"], env=env, stdout=subprocess.DEVNULL, cwd=base) as running:
        running.wait_for(lambda line: "Server startup in" in line)
        starting = [line for line in running.lines if "Starting ProtocolHandler" in line]
        yield [int(line.rsplit("-", 1)[1].rstrip('"]')) for line in starting]
