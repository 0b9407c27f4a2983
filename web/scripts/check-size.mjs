// What a first visit loads, compressed: the page, its scripts and styles with all that they import at once, and the Latin
// typeface. Fails when it is more than the budget. Run after `npm run build`: `npm run size`.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const budget = 250_000;
const dist = join(dirname(fileURLToPath(import.meta.url)), '../dist');
const page = readFileSync(join(dist, 'index.html'), 'utf8');

const wanted = new Set([...page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.(?:js|css))"/g)].map((m) => m[1]));
for (const file of wanted) {
  const text = readFileSync(join(dist, file), 'utf8');
  // Modules that are imported at once; `import(...)` is loaded later.
  for (const m of text.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) wanted.add(`assets/${m[1]}`);
}
const css = [...wanted].filter((f) => f.endsWith('.css')).map((f) => readFileSync(join(dist, f), 'utf8')).join('');
const latin = /url\((?:\.\/|\/assets\/)?([^)]*geist-latin-wght-normal[^)]*\.woff2)\)/.exec(css)?.[1];
if (!latin) throw new Error('the Latin typeface is not where it was: mend this check');

const sizes = [
  ['index.html', gzipSync(page).length],
  ...[...wanted].map((file) => [file, gzipSync(readFileSync(join(dist, file))).length]),
  // A woff2 file is compressed already.
  [latin, readFileSync(join(dist, 'assets', latin.split('/').at(-1))).length],
];
for (const [file, bytes] of sizes) console.log(`${String(bytes).padStart(8)}  ${file}`);
const total = sizes.reduce((sum, [, bytes]) => sum + bytes, 0);
console.log(`${String(total).padStart(8)}  first load, compressed (budget ${budget})`);
if (total > budget) {
  console.error('The first load is over its budget: load what the first page does not need later.');
  process.exit(1);
}
