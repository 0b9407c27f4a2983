// Code in colours. Loaded when the first code block is shown. highlight.js escapes what it is given; DOMPurify makes sure.
import DOMPurify from 'dompurify';
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import csharp from 'highlight.js/lib/languages/csharp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import ini from 'highlight.js/lib/languages/ini';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import kotlin from 'highlight.js/lib/languages/kotlin';
import php from 'highlight.js/lib/languages/php';
import python from 'highlight.js/lib/languages/python';
import ruby from 'highlight.js/lib/languages/ruby';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import swift from 'highlight.js/lib/languages/swift';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';

const languages = { bash, c, cpp, csharp, css, diff, go, ini, java, javascript, json, kotlin, php, python, ruby, rust, sql, swift, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

const kept = new Map<string, DocumentFragment>();
const keptMost = 200;
/** More code than this at once is shown in one colour. */
const longest = 50_000;

/** The code in colours, or null when the language isn't known. */
export function highlight(code: string, language: string): DocumentFragment | null {
  if (code.length > longest || !hljs.getLanguage(language)) return null;
  const key = `${language}\n${code}`;
  let found = kept.get(key);
  if (!found) {
    const html = hljs.highlight(code, { language, ignoreIllegals: true }).value;
    found = DOMPurify.sanitize(html, { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], RETURN_DOM_FRAGMENT: true });
    if (kept.size >= keptMost) kept.clear();
    kept.set(key, found);
  }
  return found.cloneNode(true) as DocumentFragment;
}
