import { describe, expect, it } from 'vitest';
import { escapeHtml, render } from './markdown';

const html = (markdown: string) => {
  const div = document.createElement('div');
  div.append(render(markdown));
  return div;
};

describe('render', () => {
  it('renders what answers are made of', () => {
    const out = html('# Title\n\nSome **bold** `code`\n\n```js\nlet a = 1;\n```\n\n- one\n- two\n\n|a|b|\n|-|-|\n|1|2|');
    for (const tag of ['h1', 'strong', 'code', 'pre', 'li', '.table-scroll table']) {
      expect(out.querySelector(tag), tag).not.toBeNull();
    }
  });

  it.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '<svg onload=alert(1)>',
    '<iframe src="https://example.com"></iframe>',
    '<a href="javascript:alert(1)">x</a>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](data:text/html,<script>alert(1)</script>)',
    '![x](https://example.com/pixel.png)',
    '![x" onerror="alert(1)](https://example.com/p.png)',
    '<style>body{display:none}</style>',
    '<p style="position:fixed">x</p>',
    '<form action="https://example.com"><input type="password"></form>',
    '```"><script>alert(1)</script>\ncode\n```',
  ])('makes %s harmless', (markdown) => {
    const out = html(markdown);
    const bad = 'script, img, svg, iframe, style, form, object, [style], [onerror], [onload], input[type=password]';
    expect(out.querySelector(bad)).toBeNull();
    for (const link of out.querySelectorAll('a[href]')) {
      expect(link.getAttribute('href')).toMatch(/^(https?|mailto):/);
    }
  });

  it('opens links elsewhere, without a way back', () => {
    const link = html('[x](https://example.com)').querySelector('a');
    expect(link?.target).toBe('_blank');
    expect(link?.rel).toContain('noopener');
  });

  it('shows overrides of the text direction instead of obeying them', () => {
    expect(html('a\u202Eb').textContent).toContain('a\u25AFb');
  });

  it('survives what is cut off in the middle', () => {
    expect(html('```py\nprint(1').querySelector('pre')?.textContent).toContain('print(1');
    expect(html('**bold and [link](https://ex').textContent).toContain('bold');
  });
});

describe('maths', () => {
  it.each([
    ['so $x^2$ is', 'x^2'],
    ['so \\(a_1 + b\\) is', 'a_1 + b'],
    ['$$\n\\frac{a}{b}\n$$', '\\frac{a}{b}'],
    ['text\n\\[ e = mc^2 \\]\nmore', 'e = mc^2'],
    ['$a<b "c"$', 'a<b "c"'],
  ])('finds it in %j', (markdown, tex) => {
    expect(html(markdown).querySelector<HTMLElement>('.maths')?.dataset['tex']).toBe(tex);
  });
  it.each(['It costs $5 and $10.', 'a $ b $ c', '`$x$`', '```\n$$\nx\n$$\n```', 'half of $x'])('finds none in %j', (markdown) => {
    expect(html(markdown).querySelector('.maths')).toBeNull();
  });
});

describe('what is large or odd', () => {
  it('keeps the numbers of a list and the boxes of a task list', () => {
    expect(html('3. three\n4. four').querySelector('ol')?.start).toBe(3);
    expect(html('- [x] done').querySelector<HTMLInputElement>('input')?.disabled).toBe(true);
  });
  it('shows what is nested beyond reason, or endless, as text', () => {
    expect(html('>'.repeat(20_000) + ' deep').textContent).toContain('deep');
    expect(html('x'.repeat(400_000)).querySelector('.plain')).not.toBeNull();
  });
});

describe('escapeHtml', () => {
  it('leaves nothing that ends an attribute', () => {
    expect(escapeHtml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;');
  });
});
