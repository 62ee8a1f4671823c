"""Requests over one kept connection."""

import http.client
import json
import shlex
from dataclasses import dataclass
from urllib.parse import quote, urlencode

# Long over the longest that any request here may be kept waiting.
REQUEST_SECONDS = 30


class Refused(Exception):
    """A request of the seeding that must succeed did not."""


@dataclass
class Request:
    method: str
    path: str
    query: list
    body: bytes | None = None
    content_type: str | None = None
    token: str | None = None
    # What is at the end of the query as it is.
    raw_query: str = ""

    @property
    def target(self):
        query = "&".join(filter(None, (urlencode(self.query, errors="surrogatepass"), self.raw_query)))
        return self.path + (f"?{query}" if query else "")

    @property
    def headers(self):
        headers = {}
        if self.content_type is not None:
            headers["Content-Type"] = self.content_type
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def curl(self):
        """The request as a command, its token left out."""
        words = ["curl", "-X", self.method, f"$SERVER{self.target}"]
        if self.token is not None:
            words += ["-H", "Authorization: Bearer $TOKEN"]
        if self.content_type is not None:
            words += ["-H", f"Content-Type: {self.content_type}"]
        if self.body is not None:
            words += ["--data-binary", self.body[:600].decode(errors="replace")]
        return " ".join(shlex.quote(word) if index != 3 else f'"{word[:1000]}"' for index, word in enumerate(words))


@dataclass
class Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def json(self):
        """The body, or None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def encode(part):
    """Anything as one segment of a path."""
    if isinstance(part, bool):
        part = "true" if part else "false"
    return quote(str(part), safe="", errors="surrogatepass")


class Wire:
    """A connection to the server, opened again when it was closed."""

    def __init__(self, server):
        self.server, self.connection, self.count = server, None, 0

    def send(self, request):
        """Raises `OSError` when there is no answer."""
        self.count += 1
        for attempt in (1, 2):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=REQUEST_SECONDS)
            try:
                answer = self.exchange(request)
                return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
            except (http.client.HTTPException, OSError) as error:
                self.close()
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise OSError(f"no answer: {error!r}") from error
        raise AssertionError

    def exchange(self, request):
        try:
            self.connection.request(request.method, request.target, request.body, request.headers)
        except BrokenPipeError:
            # The server has answered without reading the rest of a body that is too large.
            answer = http.client.HTTPResponse(self.connection.sock, method=request.method)
            answer.begin()
            return answer
        return self.connection.getresponse()

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Device:
    """A logged-in device, or with no token nobody, for requests that must succeed."""

    def __init__(self, wire, token=None, user_id=None, device_id=None, password=None):
        self.wire, self.token, self.user_id, self.device_id, self.password = wire, token, user_id, device_id, password
        self.refresh_token = None

    def ask(self, method, path, body=None, query=(), content_type="application/json", base="/_matrix/client/v3"):
        if not isinstance(body, bytes | None):
            body = json.dumps(body).encode()
        request = Request(
            method, base + path, list(query), body, content_type if body is not None else None, self.token
        )
        answer = self.wire.send(request)
        if answer.status // 100 != 2:
            raise Refused(f"{method} {path} was answered {answer.status} {answer.body[:300]!r}")
        return answer.json

    def get(self, path, **query):
        return self.ask("GET", path, query=query.items())

    def post(self, path, body=None):
        return self.ask("POST", path, {} if body is None else body)

    def put(self, path, body=None):
        return self.ask("PUT", path, {} if body is None else body)
