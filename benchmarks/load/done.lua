-- Prints what wrk found as one line of JSON, exactly: its own report is rounded. Latencies are in µs.
-- Only `done` is defined, so nothing runs for single requests.

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "bytes": %d, "duration": %d, "p50": %d, "p99": %d, "errors": '
            .. '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
        summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
