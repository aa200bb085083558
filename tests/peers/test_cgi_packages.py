"""Programs that people run as CGI, as they come from Debian: CGI.pm, gitweb, cgit, php-cgi."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import WAIT, Gateway, RequireProgram, RunGateway

GITWEB = "/usr/lib/cgi-bin/gitweb.cgi"
CGIT = "/usr/lib/cgit/cgit.cgi"

GUESTBOOK = r"""#!/usr/bin/perl -T
use strict; use warnings;
use CGI qw(-utf8);
my $q = CGI->new;
if (my $file = $q->upload('file')) {
    my $size = 0;
    while (read $file, my $piece, 65536) { $size += length $piece }
    print $q->header(-type => 'text/plain', -charset => 'utf-8');
    print 'file=', scalar $q->param('file'), " size=$size\n";
} elsif ($q->param('go')) {
    print $q->redirect($q->url(-path_info => 1) . '?name=' . $q->param('go'));
} else {
    my $cookie = $q->cookie(-name => 'seen', -value => 'yes', -path => $q->url(-absolute => 1));
    print $q->header(-type => 'text/plain', -charset => 'utf-8', -cookie => $cookie, -status => '201 Made');
    binmode STDOUT, ':utf8';
    print join '|', $q->request_method, $q->url, $q->path_info, $q->self_url, $q->cookie('seen') // '-',
        map { "$_=" . join(',', $q->multi_param($_)) } sort $q->multi_param;
}
"""

PHP = """<?php
header('Content-Type: text/plain');
echo php_sapi_name(), '|', $_SERVER['SCRIPT_NAME'], '|', $_SERVER['PATH_INFO'], '|',
    $_GET['q'] ?? '-', '|', strlen(file_get_contents('php://input')), '|', basename(__FILE__);
"""


GITWEB_CONF = """
our $projectroot = "{repositories}";
our @stylesheets = ("/gitweb/static/gitweb.css");
our $javascript = "/gitweb/static/gitweb.js";
our $logo = "/gitweb/static/git-logo.png";
our $favicon = "/gitweb/static/git-favicon.png";
"""

CGITRC = """
cache-size=0
virtual-root=/cgit
css=/cgit/static/cgit.css
logo=/cgit/static/cgit.png
favicon=/cgit/static/favicon.ico
snapshots=tar.gz
repo.url=project
repo.path={repositories}/project.git
"""


def make_projects(directory: Path) -> None:
    """The Perl program, and a repository for gitweb and cgit with their configuration."""
    (directory / "guestbook.pl").write_text(GUESTBOOK)
    (directory / "guestbook.pl").chmod(0o755)
    repositories = directory / "repositories"
    repositories.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "somebody@example.com" for who in ("AUTHOR", "COMMITTER")},
    }
    (repositories / "work").mkdir()
    (repositories / "work/README").write_text("Read this.\n")
    for command in (
        ["init", "--quiet", "--bare", "--initial-branch=main", "project.git"],
        ["init", "--quiet", "--initial-branch=main", "work"],
        ["-C", "work", "add", "README"],
        ["-C", "work", "commit", "--quiet", "--message", "The first of all commits"],
        ["-C", "work", "push", "--quiet", "../project.git", "main"],
    ):
        subprocess.run(["git", *command], cwd=repositories, env=environment, check=True, timeout=WAIT)
    (directory / "gitweb.conf").write_text(GITWEB_CONF.format(repositories=repositories))
    (directory / "cgitrc").write_text(CGITRC.format(repositories=repositories))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("debian")
    make_projects(directory)
    (directory / "hello.php").write_text(PHP)
    return directory


@pytest.fixture(scope="module")
def gateway(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    """A gateway in front of those that are installed."""
    backends = {
        "perl": ("/usr/bin/perl", "{cgi: guestbook.pl}"),
        "gitweb": (GITWEB, f"{{cgi: {GITWEB}, variables: {{GITWEB_CONFIG: {directory}/gitweb.conf}}}}"),
        "cgit": (CGIT, f"{{cgi: {CGIT}, variables: {{CGIT_CONFIG: {directory}/cgitrc}}}}"),
        "php": ("/usr/bin/php-cgi", "{cgi: ., interpreter: {.php: php-cgi}, extensions: []}"),
    }
    found = {name: text for name, (program, text) in backends.items() if os.path.exists(program)}
    lines = ["access_log: false", "backends:", *(f"  {name}: {text}" for name, text in found.items())]
    lines += ["routes:"]
    lines += [f"  - {{match: {{path: /{name}/*}}, mount: /{name}, backend: {name}}}" for name in found]
    with run_gateway(directory, "\n".join(lines)) as running:
        yield running


@pytest.fixture
def cgi_pm(require_program: RequireProgram) -> None:
    perl = require_program("perl", "apt-get install perl")
    if subprocess.run([perl, "-MCGI", "-e1"], capture_output=True).returncode:
        require_program("CGI.pm", "apt-get install libcgi-pm-perl")


@pytest.mark.usefixtures("cgi_pm")
def test_cgi_pm_sees_the_request(gateway: Gateway) -> None:
    """CGI-24: it builds its own URL from the variables."""
    response = gateway.get("/perl/a%20b?name=%C3%A4&name=2", cookie="seen=before")
    host = f"http://{gateway.host}:{gateway.port}"
    assert response.status == 201
    assert response.text == (f"GET|{host}/perl|/a b|{host}/perl/a%20b?name=%C3%A4;name=2|before|name=ä,2")
    assert response.headers["Set-Cookie"] == "seen=yes; path=/perl"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.usefixtures("cgi_pm")
def test_cgi_pm_redirects(gateway: Gateway) -> None:
    """CGI-35."""
    response = gateway.get("/perl?go=there")
    assert response.status == 302
    assert response.headers["Location"] == f"http://{gateway.host}:{gateway.port}/perl?name=there"


@pytest.mark.usefixtures("cgi_pm")
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_cgi_pm_takes_an_upload(gateway: Gateway, chunked: bool) -> None:
    """CGI-26, CGI-27: multipart/form-data, which it reads by CONTENT_LENGTH."""
    body = (
        b"--x\r\nContent-Disposition: form-data; name=file; filename=large.bin\r\n\r\n"
        + bytes(500_000)
        + b"\r\n--x--\r\n"
    )
    data = iter([body[:1000], body[1000:]]) if chunked else body
    response = gateway.post("/perl", data, content_type="multipart/form-data; boundary=x")
    assert response.text == "file=large.bin size=500000\n"


def test_gitweb(gateway: Gateway, require_program: RequireProgram) -> None:
    require_program(GITWEB, "apt-get install gitweb")
    projects = gateway.get("/gitweb/")
    assert projects.status == 200
    assert "project.git" in projects.text
    log = gateway.get("/gitweb/project.git/log")
    assert "The first of all commits" in log.text
    feed = gateway.get("/gitweb/project.git/rss")
    assert feed.headers["Content-Type"].startswith(("application/rss+xml", "text/xml"))
    assert gateway.get("/gitweb/?p=missing.git").status == 404


def test_cgit(gateway: Gateway, require_program: RequireProgram) -> None:
    require_program(CGIT, "apt-get install cgit")
    assert "project" in gateway.get("/cgit/").text
    assert "The first of all commits" in gateway.get("/cgit/project/log/").text
    assert gateway.get("/cgit/missing/").status == 404


def test_php_cgi_by_extension(gateway: Gateway, require_program: RequireProgram) -> None:
    """B21: the script is no program, has no mode and no first line for it; cgi.force_redirect is content."""
    require_program("php-cgi", "apt-get install php-cgi")
    assert gateway.get("/php/hello.php?q=1").text == "cgi-fcgi|/php/hello.php||1|0|hello.php"
    response = gateway.post("/php/hello.php/a/b?q=1", bytes(100_000), content_type="application/x-any")
    assert response.text == "cgi-fcgi|/php/hello.php|/a/b|1|100000|hello.php"


def test_php_cgi_takes_no_options_from_the_query(gateway: Gateway, require_program: RequireProgram) -> None:
    """CVE-2012-1823: -s would show the source."""
    require_program("php-cgi", "apt-get install php-cgi")
    for query in ("-s", "-s+hello.php", "%2ds"):
        response = gateway.get(f"/php/hello.php?{query}")
        assert response.text == "cgi-fcgi|/php/hello.php||-|0|hello.php"
