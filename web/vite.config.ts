// How the UI is built and tested. The output is free of inline scripts and styles, as the server's Content-Security-Policy asks.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = process.env['HONE_URL'] ?? 'http://127.0.0.1:8080';

/** KaTeX names each font three times; every browser that runs these pages takes the first, woff2. */
const woff2Only = {
  name: 'katex-woff2-only',
  enforce: 'pre' as const,
  transform: (code: string, id: string) =>
    id.includes('katex.min.css') ? code.replace(/,url\([^)]+\) format\("(?:woff|truetype)"\)/g, '') : undefined,
};

export default defineConfig({
  plugins: [svelte(), woff2Only],
  build: {
    target: 'es2022',
    // No data: URIs, so that the policy needs no `data:` source.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/v1': server, '/healthz': server, '/readyz': server } },
  test: { environment: 'jsdom', include: ['src/**/*.test.ts'] },
});
