"""Ends with status 0 where the server in this container is ready."""

import os
import ssl
import sys
import urllib.request

PORT = os.environ.get("TRIDEX_HTTP_PORT", "8000")
SCHEME = "https" if os.environ.get("TRIDEX_TLS_CERT") else "http"

# Its own server, at its own address, for which the certificate is not.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    urllib.request.urlopen(f"{SCHEME}://127.0.0.1:{PORT}/v2/health/ready", timeout=2, context=context)
except OSError as error:
    sys.exit(f"not ready: {error}")
