"""TLS on listeners, and to servers behind the gateway.

``stream``       a PumpStream that is encrypted, over a socket of the pump
``errors``       what can go wrong with it
``renewal``      contexts of OpenSSL that are renewed when their files change
``context``      the certificates of a listener: chosen by name
``client``       connections to a server: the name that is asked for, sessions that are resumed
``trust``        whom the gateway trusts there, and what it shows
``files``        certificates and keys in files, and what is wrong with them
``development``  a certificate authority of one's own, for `tls: development`
``facts``        what a connection says about itself, for applications
"""
