"""What a route or a backend puts between requests and the handler that answers them.

A filter is a handler around a handler: it changes the request before, or gives the inner handler a Responder
of its own (`gateway.passing`) and changes the response on its way::

    router ─► headers ─► limit_rate ─► authorize ─► buffering ─► request_buffering ─► mirror ─► split
                                                                                                  │
                                             backend ◄─ concurrency ◄─ sendfile ◄─ headers ◄──────┘

The second row is around a backend, whatever the route. The response comes back the same way.

``headers``            fields set, added, removed, both ways
``limit_rate``         bytes a second of a response
``authorize``          an application that is asked whether a request may go on
``buffering``          a response taken from its backend at once, sent as slowly as its client reads
``request_buffering``  a request body taken from its client before the backend hears of the request
``mirror``             a copy of each request for a second backend
``split``              one of several backends, by weight
``concurrency``        how many requests an application has at the same time
``end_to_end``         fields that filters add are passed on, whatever the client's Connection names
``sendfile``           X-Sendfile and X-Accel-Redirect: the application names what is to be sent

A route without them has none of this on its way.
"""
