// For quick work on the pages: serves web/dist in front of a hone that was built before, so that a change needs no new binary.
// HONE_DIST=1 turns it on; `make test` runs without it, on what the binary itself serves.
import { readFile } from 'node:fs/promises';
import { createServer, request as ask, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';

const dist = join(__dirname, '../../web/dist');
const types: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };

/** Starts the server in front of `hone`; gives its address and the way to end it. */
export async function front(hone: string): Promise<{ url: string; close: () => void }> {
  // The headers under which hone serves its pages hold here too.
  const { headers } = await fetch(hone);
  const policy = headers.get('content-security-policy') ?? "default-src 'none'";
  const server: Server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    if (/^\/(v1|healthz|readyz|openapi)/.test(path)) pass(hone, request, response);
    else void file(path, policy, response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.closeAllConnections() };
}

function pass(hone: string, request: IncomingMessage, response: ServerResponse): void {
  const { host } = new URL(hone);
  const headers: Record<string, string | string[] | undefined> = { ...request.headers, host };
  if (headers['origin']) headers['origin'] = hone;
  const onward = ask(`${hone}${request.url ?? ''}`, { method: request.method ?? 'GET', headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}

async function file(path: string, policy: string, response: ServerResponse): Promise<void> {
  const name = normalize(path === '/' ? '/index.html' : path);
  const body = await readFile(join(dist, name)).catch(() => readFile(join(dist, 'index.html')));
  const type = types[extname(name)] ?? 'text/html';
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'content-encoding': 'gzip', 'content-security-policy': policy });
  response.end(gzipSync(body));
}
