"""Files and thumbnails of the other server."""

import json
import os
import struct
import zlib

from harness import check, encode, equal, scenario


def png(width, height):
    """A picture with a colour gradient."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, 128)) for x in range(width)) for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def size_of(kind, data):
    """Width and height of a PNG or JPEG: servers choose which of them a thumbnail is."""
    if kind == "image/png" and data.startswith(b"\x89PNG"):
        return struct.unpack(">II", data[16:24])
    check(kind == "image/jpeg" and data.startswith(b"\xff\xd8"), f"{kind} of {len(data)} bytes is no PNG or JPEG")
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):  # the segment that begins a frame
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return struct.unpack(">HH", data[at + 5 : at + 9])[::-1]


def upload(client, data, kind, name):
    """Uploads a file; returns its server and media id."""
    path = "/_matrix/media/v3/upload"
    status, _, answer = client.raw("POST", path, data, kind, {"filename": name})
    equal(status, 200, "the status of the upload")
    uri = json.loads(answer)["content_uri"]
    server, media_id = uri.removeprefix("mxc://").split("/")
    equal(server, client.server.name, "the server in the media URI")
    return server, media_id


def download(client, server, media_id, what="download", **query):
    path = f"/_matrix/client/v1/media/{what}/{encode(server)}/{encode(media_id)}"
    return client.raw("GET", path, query=query)


@scenario("media")
def media(case):
    alice, bob, room_id = case.shared_room()
    for giver, getter in ((alice, bob), (bob, alice)):
        picture = png(320, 240)
        server, media_id = upload(giver, picture, "image/png", "picture ä.png")
        uri = f"mxc://{server}/{media_id}"
        content = {"msgtype": "m.image", "body": "picture", "url": uri, "info": {"mimetype": "image/png"}}
        event_id = giver.send(room_id, "m.room.message", content)
        equal(getter.until_event(room_id, event_id)["content"]["url"], uri, "the URI in the event")
        for _ in range(2):  # from the other server, then from the copy
            status, headers, data = download(getter, server, media_id)
            equal(status, 200, "the status of the download")
            check(data == picture, f"{len(data)} bytes came, not the {len(picture)} of the picture")
            equal(headers.get_content_type(), "image/png", "the content type")
            check("picture" in headers.get("Content-Disposition", ""), "the file name is lost")


@scenario("media_large")
def media_large(case):
    alice, bob = case.pair()
    for giver, getter in ((alice, bob), (bob, alice)):
        content = os.urandom(5 * 1024 * 1024)
        server, media_id = upload(giver, content, "application/octet-stream", "noise.bin")
        status, headers, data = download(getter, server, media_id)
        equal(status, 200, "the status of the download")
        check(data == content, f"{len(data)} bytes came, not the {len(content)} of the file")
        equal(headers.get_content_type(), "application/octet-stream", "the content type")


@scenario("thumbnails")
def thumbnails(case):
    alice, bob = case.pair()
    for giver, getter in ((alice, bob), (bob, alice)):
        server, media_id = upload(giver, png(640, 480), "image/png", "large.png")
        for method, width, height in (("scale", 320, 240), ("crop", 96, 96), ("crop", 32, 32)):
            status, headers, data = download(
                getter, server, media_id, "thumbnail", method=method, width=width, height=height
            )
            equal(status, 200, f"the status of the thumbnail {method} {width}")
            equal(size_of(headers.get_content_type(), data), (width, height), "the thumbnail's size")


@scenario("media_missing")
def media_missing(case):
    _, bob = case.pair()
    status, _, _ = download(bob, case.one.name, "nothingofthatname")
    equal(status, 404, "the status for media that is not there")
    status, _, _ = download(bob, case.one.name, "nothingofthatname", "thumbnail", width=32, height=32, method="scale")
    equal(status, 404, "the status for a thumbnail of media that is not there")
