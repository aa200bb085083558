"""The gateway and its peers, side by side on this machine: ``python -m benchmarks``.

What is measured
    For each scenario the gateway and the servers that people use instead (its peers) are started one
    after the other, asked until they give the right answer, warmed up, put under load, measured
    and stopped; then the next, then all of them again, for several rounds (A B C A B C ...), so that a
    slow minute of the machine hits all of them. Each start is a new process, so that its luck with
    memory layout and hash seeds is averaged too.

Who runs where
    The server alone has the first core that this process may use; wrk and the backend (the FastCGI
    program, php-fpm, uWSGI, nginx) share the second. The backend is not counted: only the server that
    is compared is, with all processes below it. Programs that a CGI server starts are below it, and so
    is fcgiwrap below "nginx + fcgiwrap". On a machine with one core all share it, and only the CPU
    figures mean something.

What of the gateway
    ``make bench`` measures what ``make build`` makes: compiled twice, the second time with a profile, where
    there is a C compiler (setup.py). ``python -m benchmarks`` takes the sources if they are newer than the
    last build. The version in the tables says "compiled" or not. ``BENCHMARKED=DIRECTORY`` measures one that
    is installed there (``pip install --target DIRECTORY .``).

How all are configured
    One worker process (and one event loop or thread where a server lets one choose; eight application
    threads for WSGI), keep-alive without limit, no access log, sendfile on, connections to the backend
    kept open where the server can. Otherwise each server's defaults.

How to read the figures
    * The ratios are the result; absolute numbers belong to this machine on this day. A ratio is the
      gateway's figure divided by the peer's in the same round, and of these the median over all
      rounds. Below 1 the gateway is the cheaper one; in scenarios that compare throughput, above 1
      it is the faster one. The table's heading names what is compared.
    * CPU µs/request is user and system time of the server's processes, exited children included,
      divided by the answered requests. It hardly depends on how busy the other core is; requests/s do,
      as soon as wrk or the backend is the slowest part.
    * p50 and p99 are latencies with all connections busy, so they mostly say how long the queue is.
    * Resident memory is summed over the server's processes: pages that they share count once for each.
      The JSON file also has the proportional size (PSS), which counts them once.
    * CPU time of children that a server has the kernel reap (SIGCHLD ignored) is lost to every
      accounting; fcgiwrap and Apache's mod_cgid do that. So the cgi scenario compares wall time: one
      second divided by requests/s, with the server and its programs on one core.
    * Where servers are compared by their start, they are asked every 5 ms until they answer rightly.
    * Throughput, latencies and wall times need a machine that does nothing else. Both cores are watched
      for a moment before each run; if others used them, a line below the table says so.
    * A run with a socket error, a timeout or an answer other than 2xx or 3xx is invalid and said so;
      a server with no valid run has no figures.

The modules, in the order of a run::

    __main__    the command line
    scenarios   what is compared, and the targets
    peers       how Python servers and the gateway are started; what a peer is
    webservers  how nginx, Apache, lighttpd, HAProxy, Caddy and uWSGI are started
    backends    what runs behind them, and the files they serve
    run         rounds: start, check, warm up, load, measure, stop
    process     starting and ending processes, pinned to a core
    load/       wrk, h2load, WebSocket messages, large downloads, idle connections
    measure     CPU time and memory of process trees
    report      medians, ratios, verdicts; tables and JSON
"""
