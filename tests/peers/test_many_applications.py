"""Applications that people run, all behind one gateway, used with a browser and a plain client.

DokuWiki and phpSysInfo on php-fpm, a Perl program, gitweb and cgit by CGI, Django on uWSGI, Flask on flup by
FastCGI, SCGI and AJP and on gunicorn by uwsgi, Tomcat's examples by AJP: `apps/many.yaml`. Each is below a
path of its own, and what it links to, loads and redirects to must be below it, too.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing
from io import BytesIO
from pathlib import Path

import django
import pytest

from tests.peers.browser import Browser
from tests.peers.conftest import CHECKOUT, WAIT, Gateway, Program, RequireProgram, RunGateway
from tests.peers.test_cgi_packages import CGIT, GITWEB, make_projects
from tests.peers.tomcat import TOMCAT, run_tomcat

APPS = CHECKOUT / "tests/peers/apps"
DOKUWIKI = Path("/usr/share/dokuwiki")
EXAMPLES = Path("/usr/share/tomcat10-examples/examples")

NEEDED = {
    str(DOKUWIKI / "doku.php"): "dokuwiki",
    "/usr/share/phpsysinfo/index.php": "phpsysinfo",
    str(EXAMPLES / "index.html"): "tomcat10-examples",
    TOMCAT: "tomcat10-common",
    GITWEB: "gitweb",
    CGIT: "cgit",
    "/usr/share/perl5/CGI.pm": "libcgi-pm-perl",
    "uwsgi": "uwsgi-core uwsgi-plugin-python3",
    "chromium": "chromium",
}
"""Files and programs, and the Debian packages that have them."""

FPM = """
[global]
error_log = /proc/self/fd/2
[www]
listen = {directory}/fpm.sock
user = root
group = root
pm = static
pm.max_children = 4
php_admin_value[session.save_path] = {directory}
php_admin_value[upload_tmp_dir] = {directory}
"""

DOKUWIKI_PREPEND = "<?php define('DOKU_CONF', '{directory}/wiki/');"
"""Its own place to choose another configuration is a file below /etc."""

DOKUWIKI_CONF = """<?php
$conf['title'] = 'A wiki';
$conf['useacl'] = 1;
$conf['superuser'] = '@admin';
$conf['savedir'] = '{directory}/data';
$conf['userewrite'] = 2;
$conf['xsendfile'] = 2;
"""

# The password is `secret`.
DOKUWIKI_USERS = "ann:5ebe2294ecd0e0f08eab7690d2a6ee69:Ann:ann@example.com:admin,user\n"

PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""

CONNECTOR = '<Connector protocol="AJP/1.3" address="127.0.0.1" port="0" secret="s3cret" />'

FLUP_AJP = """
import sys
from flup.server.ajp import WSGIServer
from notes_app import app

class Server(WSGIServer):
    def _setupSocket(self):
        sock = super()._setupSocket()
        print("listening on", sock.getsockname()[1], file=sys.stderr, flush=True)
        return sock

Server(app, scriptName="/notes/ajp", bindAddress=("127.0.0.1", 0), loggingLevel=50).run()
"""

LISTENERS = "[{http: 127.0.0.1:0}, {http: 127.0.0.1:0, tls: development}]"

EXPECTED = ["application stderr"]  # warnings of PHP


@pytest.fixture(scope="module")
def directory(require_program: RequireProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The applications' own files, and their configuration."""
    for name, packages in NEEDED.items():
        if not os.path.exists(name):
            require_program(name, f"apt-get install {packages}")
    directory = tmp_path_factory.mktemp("many")
    make_projects(directory)
    for name in ("notes_app.py", "shop_app.py"):
        shutil.copy(APPS / name, directory)
    subprocess.run([sys.executable, "shop_app.py"], cwd=directory, check=True, timeout=WAIT)
    (directory / "dot.png").write_bytes(PNG)
    (directory / "fpm.conf").write_text(FPM.format(directory=directory))
    (directory / "dokuwiki.php").write_text(DOKUWIKI_PREPEND.format(directory=directory))
    shutil.copytree(
        "/etc/dokuwiki", directory / "wiki", ignore=shutil.ignore_patterns("*.auth.php", "local.php")
    )
    (directory / "wiki/local.php").write_text(DOKUWIKI_CONF.format(directory=directory))
    (directory / "wiki/users.auth.php").write_text(DOKUWIKI_USERS)
    (directory / "wiki/acl.auth.php").write_text("* @ALL 1\n* @user 8\n")
    for name in ("attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta", "meta",
                 "pages", "tmp"):  # fmt: skip
        (directory / "data" / name).mkdir(parents=True)
    return directory


@pytest.fixture(scope="module")
def gateway(directory: Path, fpm_program: str, run_gateway: RunGateway) -> Iterator[Gateway]:
    context = f'<Context path="/examples" docBase="{EXAMPLES}" />'
    with ExitStack() as stack:
        (tomcat_port,) = stack.enter_context(
            run_tomcat(TOMCAT, directory / "tomcat", CONNECTOR, contexts=context)
        )
        program = stack.enter_context(Program([sys.executable, "-c", FLUP_AJP], cwd=directory))
        flup_port = program.wait_for(lambda line: line.startswith("listening on")).split()[-1]
        variables = {
            "DIRECTORY": str(directory),
            "PHP_FPM": fpm_program,
            "PYTHON": sys.executable,
            "PACKAGES": str(Path(django.__file__).parents[1]),
            "FLUP_PORT": flup_port,
            "TOMCAT_PORT": str(tomcat_port),
            "XDG_CACHE_HOME": str(directory / "cache"),
        }
        config = (APPS / "many.yaml").read_text()
        yield stack.enter_context(
            run_gateway(directory, config, listeners=LISTENERS, env=variables, expect=EXPECTED)
        )


@pytest.fixture(scope="module")
def https(gateway: Gateway) -> str:
    return gateway.https


@pytest.fixture(scope="module")
def shop(require_program: RequireProgram) -> None:
    """Nothing but that it can run: uWSGI comes with a Python of its own."""
    command = [require_program("uwsgi", f"apt-get install {NEEDED['uwsgi']}"), "--plugin", "python3"]
    done = subprocess.run([*command, "--python-version"], stdout=subprocess.PIPE, timeout=WAIT, check=True)
    version = done.stdout.decode().strip()
    if version.split(".")[:2] != list(platform.python_version_tuple()[:2]):
        pytest.skip(f"uWSGI has Python {version}, and Django is installed for another")


# ---- what a page may be


def check_page(browser: Browser, site: str, mount: str) -> None:
    """All that it has loaded was there, it has no complaints, and nothing of this site is beyond *mount*."""
    assert browser.complaints() == []
    seen = {response["url"]: response["status"] for response in browser.responses()}
    assert {url: status for url, status in seen.items() if status >= 400} == {}
    urls = [url for url in seen if not url.startswith("data:") and url != f"{site}/favicon.ico"]
    urls += browser.run(LINKS)
    assert [url for url in urls if not re.match(rf"{re.escape(site + mount)}([/?#;]|$)", url)] == []


LINKS = """
return [...document.querySelectorAll("[href], [src], [action]")]
    .map(element => new URL(
        element.getAttribute("href") || element.getAttribute("src") || element.getAttribute("action"),
        document.baseURI,
    ))
    .filter(url => url.host === location.host || url.hostname === location.hostname)
    .map(url => url.href);
"""


def text_of(browser: Browser) -> str:
    text: str = browser.run("return document.body.innerText")
    return text


# ---- PHP


def test_dokuwiki(browser: Browser, gateway: Gateway, https: str, directory: Path) -> None:
    """Log in, write a page, put an image on it: POST, redirects, PATH_INFO, an upload, X-Sendfile."""
    assert browser.open(f"{https}/wiki/")["status"] == 200
    assert "This topic does not exist yet" in text_of(browser)
    assert (
        browser.run("return getComputedStyle(document.querySelector('#dokuwiki__site')).maxWidth") != "none"
    )
    check_page(browser, https, "/wiki")

    browser.open(f"{https}/wiki/doku.php/start?do=login")
    browser.follow("""
        const form = document.querySelector("#dw__login");
        form.elements.u.value = "ann";
        form.elements.p.value = "secret";
        form.querySelector("button").click();
    """)
    assert "Logged in as: Ann" in text_of(browser)
    check_page(browser, https, "/wiki")

    browser.open(f"{https}/wiki/doku.php/start?do=media&tab_files=upload")
    browser.wait_for("document.querySelector('.qq-uploader')")  # which takes the place of a plain form
    browser.choose(".qq-uploader input[type=file]", directory / "dot.png")
    browser.run("document.querySelector('#mediamanager__upload_button').click()")
    browser.wait_for("document.querySelector('.qq-upload-success')")
    assert (directory / "data/media/dot.png").read_bytes() == PNG
    check_page(browser, https, "/wiki")

    browser.open(f"{https}/wiki/doku.php/start?do=edit")
    saved = browser.follow("""
        document.querySelector("#wiki__text").value = "====== Grüße ======\\n{{:dot.png}} [[other page]]";
        document.querySelector("#edbtn__save").click();
    """)
    assert saved["url"] == f"{https}/wiki/doku.php/start"
    assert browser.run("return document.querySelector('h1.sectionedit1').innerText") == "Grüße"
    browser.wait_for("document.querySelector('.page img').naturalWidth == 1")
    check_page(browser, https, "/wiki")
    assert f"{https}/wiki/lib/exe/fetch.php/dot.png" in [response["url"] for response in browser.responses()]
    part = gateway.get("/wiki/lib/exe/fetch.php/dot.png", Range="bytes=0-7")
    assert (part.status, part.headers["Content-Type"], part.body) == (206, "image/png", PNG[:8])

    browser.follow("document.querySelector('.page a.wikilink2').click()")
    assert browser.run("return location.pathname") == "/wiki/doku.php/other_page"

    # What the form for uploads sends without scripts.
    browser.open(f"{https}/wiki/lib/exe/mediamanager.php?ns=")
    browser.run(f"window.picture = '{b64encode(PNG).decode()}'")
    browser.run("""
        const form = new FormData();
        form.append("sectok", document.querySelector("[name=sectok]").value);
        form.append("ns", "");
        form.append("upload", new Blob([Uint8Array.from(atob(picture), c => c.charCodeAt(0))]), "other.png");
        await fetch("mediamanager.php", {method: "POST", body: form});
    """)
    assert (directory / "data/media/other.png").read_bytes() == PNG


def test_phpsysinfo(browser: Browser, gateway: Gateway, https: str) -> None:
    browser.open(f"{https}/info/index.php?disp=dynamic")
    browser.wait_for("document.body.innerText.includes('Kernel Version')")
    check_page(browser, https, "/info")
    assert gateway.get("/info/xml.php?json").json()["Vitals"]["@attributes"]["OS"] == "Linux"
    xml = gateway.get("/info/xml.php")
    assert xml.headers["Content-Type"].startswith("text/xml")
    assert b"<Vitals " in xml.body
    assert gateway.get("/info/data/").status == 403


# ---- Django


@pytest.mark.usefixtures("shop")
def test_django(browser: Browser, https: str) -> None:
    """The admin site: its style, a login with CSRF checks by Origin, a form, redirects to where it is."""
    login = browser.open(f"{https}/shop/admin/")
    assert login["url"] == f"{https}/shop/admin/login/?next=/shop/admin/"
    check_page(browser, https, "/shop")
    home = browser.follow("""
        const form = document.querySelector("#login-form");
        form.elements.username.value = "ann";
        form.elements.password.value = "secret";
        form.querySelector("[type=submit]").click();
    """)
    assert (home["url"], home["status"]) == (f"{https}/shop/admin/", 200)
    check_page(browser, https, "/shop")
    browser.open(f"{https}/shop/admin/auth/group/add/")
    check_page(browser, https, "/shop")
    added = browser.follow("""
        document.querySelector("#id_name").value = "Gäste & Co";
        document.querySelector("[name=_save]").click();
    """)
    assert added["url"] == f"{https}/shop/admin/auth/group/"
    assert "The group “Gäste & Co” was added successfully." in text_of(browser)
    check_page(browser, https, "/shop")


@pytest.mark.usefixtures("shop")
def test_django_upload(browser: Browser, gateway: Gateway, https: str, directory: Path) -> None:
    """multipart/form-data, and an absolute redirect that has the client's scheme, host and port."""
    file = directory / "large.bin"
    file.write_bytes(bytes(range(256)) * 20_000)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    for site in (https, gateway.url):
        browser.open(f"{site}/shop/order/")
        browser.choose("#id_picture", file)
        ordered = browser.follow("""
            document.querySelector("#id_what").value = "Tee";
            document.querySelector("button").click();
        """)
        assert ordered["url"] == f"{site}/shop/ordered/"
        assert text_of(browser) == f"Tee {md5}"
    refused = gateway.post("/shop/order/", b"what=Tee", content_type="application/x-www-form-urlencoded")
    assert (refused.status, "CSRF" in refused.text) == (403, True)


# ---- Flask

every_protocol = pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])


@every_protocol
def test_flask_session(browser: Browser, gateway: Gateway, https: str, protocol: str) -> None:
    """Two cookies, a redirect, links with the mount and the client's scheme."""
    # flup 1.0.3 ends AJP connections on which it is told the size of the key of TLS.
    site = gateway.url if protocol == "ajp" else https
    home = f"{site}/notes/{protocol}/"
    browser.open(home)
    check_page(browser, site, f"/notes/{protocol}")
    answer = browser.follow(f"""
        document.querySelector("input").value = "Ann of {protocol}";
        document.querySelector("button").click();
    """)
    assert (answer["url"], answer["status"]) == (home, 200)
    assert browser.run("return document.querySelector('h1').innerText") == f"Notes of Ann of {protocol}"
    assert "second=2" in browser.run("return document.cookie")
    assert browser.run("return document.querySelector('a').getAttribute('href')") == home
    check_page(browser, site, f"/notes/{protocol}")


@every_protocol
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_flask_methods(gateway: Gateway, protocol: str, chunked: bool) -> None:
    # flup 1.0.3 does not decode the paths of AJP.
    target = f"/notes/{protocol}/notes/{'a' if protocol == 'ajp' else 'a%20'}{chunked}"
    text = "Grüße " * 10_000
    body = iter([text[:100].encode(), text[100:].encode()]) if chunked else text.encode()
    made = gateway.request("PUT", target, body)
    assert (made.status, made.headers["Location"]) == (201, gateway.url + target)
    assert gateway.get(target).text == text
    assert gateway.request("HEAD", target).headers["Content-Length"] == str(len(text.encode()))
    gone = gateway.request("DELETE", target)
    assert (gone.status, gone.body) == (204, b"")
    assert gateway.get(target).status == 404


@every_protocol
def test_flask_stream(gateway: Gateway, protocol: str) -> None:
    """The first piece is at the client before the second is made."""
    with closing(gateway.connect()) as connection:
        connection.request("GET", f"/notes/{protocol}/stream")
        response = connection.getresponse()
        assert response.read1(100) == b"first,"
        assert gateway.get(f"/notes/{protocol}/go").text == "gone"
        assert response.read() == b"second"


# ---- Tomcat


def test_tomcat(browser: Browser, https: str) -> None:
    """The servlets of its examples: the request as they see it, a session, cookies."""
    servlets = f"{https}/examples/servlets"
    browser.open(f"{servlets}/")
    check_page(browser, https, "/examples")
    browser.follow("document.querySelector('a[href$=RequestInfoExample]').click()")
    text = text_of(browser)
    assert re.search(r"Request URI:\s+/examples/servlets/servlet/RequestInfoExample\s", text)
    assert re.search(r"Remote Address:\s+127\.0\.0\.1\s", text)
    assert re.search(r"SSLCipherSuite:\s+TLS_", text)

    browser.open(f"{servlets}/servlet/SessionExample")
    browser.follow("""
        const form = document.querySelector("form[method=POST]");
        form.elements.dataname.value = "drink";
        form.elements.datavalue.value = "tea";
        form.submit();
    """)
    assert "drink = tea" in text_of(browser)
    check_page(browser, https, "/examples")
    browser.open(f"{servlets}/servlet/CookieExample")
    browser.follow("""
        const form = document.querySelector("form");
        form.elements.cookiename.value = "sweet";
        form.elements.cookievalue.value = "yes";
        form.submit();
    """)
    browser.open(f"{servlets}/servlet/CookieExample")
    assert re.search(r"Name:\s+sweet", text_of(browser))


# ---- CGI


def test_perl(browser: Browser, https: str) -> None:
    browser.open(f"{https}/guestbook")
    answer = browser.run("""
        const form = new FormData();
        form.append("file", new Blob([new Uint8Array(300000)]), "large.bin");
        return (await fetch("/guestbook", {method: "POST", body: form})).text();
    """)
    assert answer == "file=large.bin size=300000\n"


@pytest.mark.parametrize(
    ("mount", "link", "snapshot"),
    [
        ("/gitweb", "a[href*='project.git;a=log']", "/gitweb/project.git/snapshot/main.tar.gz"),
        ("/cgit", "a[href='/cgit/project/']", "/cgit/project/snapshot/project-main.tar.gz"),
    ],
)
def test_repositories(
    browser: Browser, gateway: Gateway, https: str, mount: str, link: str, snapshot: str
) -> None:
    browser.open(f"{https}{mount}/")
    check_page(browser, https, mount)
    browser.follow(f'document.querySelector("{link}").click()')
    assert "The first of all commits" in text_of(browser)
    check_page(browser, https, mount)
    archive = gateway.get(snapshot)
    assert archive.headers["Content-Type"].startswith("application/x-gzip")
    with tarfile.open(fileobj=BytesIO(archive.body)) as files:
        (readme,) = [name for name in files.getnames() if name.endswith("/README")]
        content = files.extractfile(readme)
        assert content is not None
        assert content.read() == b"Read this.\n"


# ---- all of them


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_mounts_without_a_slash(
    gateway: Gateway, https: str, version: str, require_program: RequireProgram
) -> None:
    """Where curl ends that follows redirects, at both listeners."""
    curl = require_program("curl", "apt-get install curl")
    ends = {
        "/wiki": "/wiki/doku.php/start",
        "/info": "/info/",
        "/gitweb": "/gitweb",
        "/cgit": "/cgit",
        "/guestbook": "/guestbook",
        "/shop/admin": "/shop/admin/login/?next=/shop/admin/",
        "/notes/fastcgi": "/notes/fastcgi/",
        "/examples": "/examples/",
        "/examples/servlets": "/examples/servlets/",
    }
    site = {"1.1": gateway.url, "2": https}[version]
    command = [curl, "--silent", "--show-error", "--insecure", "--location", f"--http{version}"]
    command += ["--write-out", "%{http_code} %{http_version} %{url_effective}\n"]
    for path in ends:
        command += ["--output", os.devnull, site + path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)
    status = {"/guestbook": 201}
    assert done.stdout.splitlines() == [
        f"{status.get(path, 200)} {version} {site}{end}" for path, end in ends.items()
    ]
