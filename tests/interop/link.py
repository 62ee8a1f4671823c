"""The way by which other servers reach a server: forwards connections, and can be cut."""

import asyncio
import threading


class Link:
    """Listens on a free port of `host` and forwards to `target` on the same host."""

    loop = None

    def __init__(self, host, target):
        self.host, self.target = host, target
        self.listener = None
        self.port = 0
        self.writers = set()
        if Link.loop is None:
            Link.loop = asyncio.new_event_loop()
            threading.Thread(target=Link.loop.run_forever, daemon=True, name="links").start()
        self.mend()

    def mend(self):
        """Lets connections through (again)."""
        self._run(self._listen())

    def cut(self):
        """Ends the connections there are and refuses further ones."""
        self._run(self._close())

    def _run(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, Link.loop).result(20)

    async def _listen(self):
        if self.listener is None:
            self.listener = await asyncio.start_server(self._forward, self.host, self.port)
            self.port = self.listener.sockets[0].getsockname()[1]

    async def _close(self):
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        for writer in list(self.writers):
            writer.transport.abort()

    async def _forward(self, reader, writer):
        self.writers.add(writer)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.transport.abort()
            self.writers.discard(writer)
            return
        self.writers.add(inner_writer)
        await asyncio.gather(self._copy(reader, inner_writer), self._copy(inner_reader, writer))
        self.writers.discard(writer)
        self.writers.discard(inner_writer)

    @staticmethod
    async def _copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
