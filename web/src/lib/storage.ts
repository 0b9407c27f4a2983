// What this browser keeps for its person: JSON in localStorage. A browser that refuses (private mode, full) only forgets.

const prefix = 'hone.';

/** The stored value, or the fallback when there is none or it can't be read. */
export function load<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(prefix + key);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

/** Stores a value; answers whether the browser took it. */
export function save(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(prefix + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Forgets a value. */
export function forget(key: string): void {
  try {
    localStorage.removeItem(prefix + key);
  } catch {
    // A browser that refuses storage has nothing to forget.
  }
}

/** The stored keys that begin so. */
export function keys(start: string): string[] {
  try {
    const all = Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i) ?? '');
    return all.filter((k) => k.startsWith(prefix + start)).map((k) => k.slice(prefix.length));
  } catch {
    return [];
  }
}
