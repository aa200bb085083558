"""What a client is told when something fails; what can fail is in `gateway.errors`.

::

    error ─► response ─► FailureResponse
               │ └─► advice        what a developer does next
               └───► pages         HTML, problem details, text, or a page of the operator's
                       └─► negotiation    which of them the client prefers
"""
