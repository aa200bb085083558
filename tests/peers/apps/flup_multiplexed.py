"""flup's FastCGI server with several requests on a connection, on descriptor 0.

``flup_multiplexed.py MODULE`` serves the application ``app`` of that module.
"""

import importlib
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flup.server.fcgi import WSGIServer

warnings.simplefilter("ignore")
server = WSGIServer(importlib.import_module(sys.argv[1]).app, multiplexed=True)
# On Python 3 flup looks for these names as bytes, which is what they come as.
server.capability = {name.encode(): value for name, value in server.capability.items()}
server.run()
