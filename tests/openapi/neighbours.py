"""What the server talks to besides clients: an application service with a network behind it, and a web page for previews,
both by one small web server on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

AS_ID, AS_TOKEN, HS_TOKEN = "bridge", "token-of-the-service", "token-of-the-server"
PROTOCOL = "irc"
IMAGE = Path(__file__).parent.parent / "clients" / "image.png"
PAGE = b"""<html><head><title>Tea</title><meta property="og:title" content="Tea"><meta property="og:image" content="a.png">
<meta property="og:description" content="How to make it"></head></html>"""
FIELDS = {"network": "libera", "channel": "#tea", "nick": "bob"}
FIELD_TYPE = {"regexp": ".*", "placeholder": "libera"}
DESCRIBED = {
    "user_fields": ["network", "nick"],
    "location_fields": ["network", "channel"],
    "icon": "mxc://example.org/icon",
    "field_types": {name: FIELD_TYPE for name in FIELDS},
    "instances": [{"desc": "Libera", "network_id": "libera", "fields": {"network": "libera"}}],
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        path = urlsplit(self.path).path
        if path == "/page":
            return self.write("text/html; charset=utf-8", PAGE)
        if path == "/a.png":
            return self.write("image/png", IMAGE.read_bytes())
        name = self.server.name
        if "/thirdparty/protocol/" in path:
            found = DESCRIBED
        elif "/thirdparty/location" in path:
            found = [{"alias": f"#_irc_tea:{name}", "protocol": PROTOCOL, "fields": FIELDS}]
        elif "/thirdparty/user" in path:
            found = [{"userid": f"@_irc_bob:{name}", "protocol": PROTOCOL, "fields": FIELDS}]
        elif "/transactions/" in path or path.endswith("/ping"):
            found = {}
        else:
            return self.write("application/json", b'{"errcode": "M_NOT_FOUND", "error": "no such thing"}', 404)
        return self.write("application/json", json.dumps(found).encode())

    do_GET = do_PUT = do_POST = answer

    def write(self, kind, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing is told of requests."""


class Neighbours:
    """The web server, from when it is made until it is stopped."""

    def __init__(self, server_name):
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.name = True, server_name
        self.origin = f"http://127.0.0.1:{self.http.server_port}"
        self.page = f"{self.origin}/page"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def registration(self):
        """The file that registers the application service; JSON is YAML."""
        namespaces = {
            "users": [{"exclusive": True, "regex": "@_irc_.*"}],
            "aliases": [{"exclusive": True, "regex": "#_irc_.*"}],
        }
        return json.dumps(
            {
                "id": AS_ID,
                "url": self.origin,
                "as_token": AS_TOKEN,
                "hs_token": HS_TOKEN,
                "sender_localpart": "ircbot",
                "namespaces": namespaces,
                "protocols": [PROTOCOL],
            }
        )

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
