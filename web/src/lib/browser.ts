// What browsers only offer to pages on a secure address, with what works on a plain one too (hone on a local network).

/** A random id for something that only this browser knows. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

/** Puts text on the clipboard; answers whether it worked. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The way before there was a clipboard interface; it is the only one on plain HTTP. */
function copyBySelection(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'visually-hidden';
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}

/** Hands a text to the person as a file. */
export function download(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Whether a key press belongs to something that takes text, or to an open dialog. One that was just closed keeps the focus for a moment. */
export function typing(event: KeyboardEvent): boolean {
  const takes = 'textarea, input:not([type=checkbox]), select, dialog[open], [contenteditable], [popover]:popover-open';
  return event.target instanceof HTMLElement && event.target.closest(takes) !== null;
}

/** Runs something once the browser has nothing to do, or after a while anyway; the answer takes it back. */
export function whenIdle(run: () => void): () => void {
  // Safari doesn't tell when it is idle.
  if (!('requestIdleCallback' in window)) {
    const timer = setTimeout(run, 30);
    return () => clearTimeout(timer);
  }
  const asked = requestIdleCallback(run, { timeout: 500 });
  return () => cancelIdleCallback(asked);
}
