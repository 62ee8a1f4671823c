// Serves the host page and Element Call on a loopback port: /ec/MODE/ is Element Call with that
// mode in its config.json, /ec/tiny/MODE/ with smaller pictures.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { build } from "esbuild";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json",
  ".wasm": "application/wasm", ".svg": "image/svg+xml", ".map": "application/json",
};

/** `legacy` went away with 0.23: older installations of Element Call still use it. */
export const MODES = { legacy: "element-call-older", compatibility: "element-call", matrix_2_0: "element-call" };

/** The machine encodes and decodes all sides of the call in software: small pictures, `tiny` ones in a larger call. */
const config = (mode, tiny) => ({
  matrix_rtc_mode: mode,
  media_quality: { video: tiny ? { max_resolution: 180, max_framerate: 10 } : { max_resolution: 360, max_framerate: 15 } },
});

export async function serveSite(root) {
  const modules = join(root, "node_modules");
  const bundle = await build({
    entryPoints: [join(root, "ec/host.js")], bundle: true, format: "esm", write: false, logLevel: "error",
    define: { global: "globalThis", "process.env.NODE_ENV": '"production"' },
  });
  const files = {
    "/host.html": () => readFile(join(root, "ec/host.html")),
    "/host.js": async () => bundle.outputFiles[0].contents,
  };
  const read = async (path) => {
    if (files[path]) return files[path]();
    if (path.startsWith("/pkg/")) return readFile(join(modules, "@matrix-org/matrix-sdk-crypto-wasm", path));
    const [, tiny, mode, rest] = /^\/ec\/(tiny\/)?([a-z0-9_]+)\/(.*)$/.exec(path) ?? [];
    if (!MODES[mode]) return undefined;
    if (rest === "config.json") return JSON.stringify(config(mode, tiny));
    return readFile(join(modules, MODES[mode], "dist", rest));
  };
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://site").pathname);
    const body = await read(path).catch(() => undefined);
    response.writeHead(body ? 200 : 404, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}
