// A line to the server that can be slow, be cut, and be mended: what a bad network does, without asking the browser to pretend.
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** The line. */
export interface Wire {
  /** The server's address on this line. */
  url: string;
  /** From now on so many bytes a second come through; 0 is as many as there are. */
  slow: (bytesPerSecond: number) => void;
  /** Breaks every connection, and takes no new one. */
  cut: () => void;
  /** Takes connections again, at full speed. */
  mend: () => void;
  close: () => void;
}

/** Lays a line to `hone`. */
export async function wire(hone: string): Promise<Wire> {
  const { hostname, port } = new URL(hone);
  const open = new Set<Socket>();
  let rate = 0;
  let whole = true;
  const server = createServer((client) => {
    if (!whole) return void client.destroy();
    const upstream = connect(Number(port), hostname);
    for (const end of [client, upstream]) {
      open.add(end);
      end.on('error', () => undefined);
      end.on('close', () => (open.delete(end), client.destroy(), upstream.destroy()));
    }
    client.pipe(upstream);
    upstream.on('data', (piece) => {
      client.write(piece);
      if (rate === 0) return;
      upstream.pause();
      setTimeout(() => upstream.resume(), (piece.length / rate) * 1000);
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const cutAll = (): void => open.forEach((end) => end.destroy());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    slow: (bytesPerSecond) => void (rate = bytesPerSecond),
    cut: () => {
      whole = false;
      cutAll();
    },
    mend: () => {
      whole = true;
      rate = 0;
    },
    close: () => {
      cutAll();
      server.close();
    },
  };
}
