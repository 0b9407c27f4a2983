// Light or dark: the system's choice until the person makes one.
import { forget, load, save } from './storage';

/** What the person chose. */
export type Theme = 'system' | 'light' | 'dark';

const themes: readonly Theme[] = ['system', 'light', 'dark'];

class ThemeState {
  choice = $state<Theme>('system');

  constructor() {
    const stored = load<Theme>('theme', 'system');
    this.set(themes.includes(stored) ? stored : 'system');
  }

  /** Takes a choice, shows it and remembers it. */
  set(choice: Theme): void {
    this.choice = choice;
    const root = document.documentElement;
    if (choice === 'system') {
      delete root.dataset['theme'];
      forget('theme');
    } else {
      root.dataset['theme'] = choice;
      save('theme', choice);
    }
  }

  /** System, light, dark, and round again. */
  next(): void {
    this.set(themes[(themes.indexOf(this.choice) + 1) % themes.length] ?? 'system');
  }
}

/** The one theme of the page. */
export const theme = new ThemeState();
