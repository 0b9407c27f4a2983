// Short messages that come and go: what was done, and a way back where there is one.

/** A way back or on. */
export interface Act {
  name: string;
  run: () => void;
}

/** One message. */
export interface Toast {
  id: number;
  text: string;
  tone: 'plain' | 'bad';
  act?: Act;
  gone?: () => void;
}

class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  #next = 1;

  /** Shows a sentence for a while; an error, or one that offers an act, stays longer. `gone` is called when it has gone. */
  show(text: string, tone: Toast['tone'] = 'plain', act?: Act, gone?: () => void): void {
    const id = this.#next++;
    this.list = [...this.list, { id, text, tone, ...(act ? { act } : {}), ...(gone ? { gone } : {}) }];
    setTimeout(() => this.dismiss(id), tone === 'bad' || act ? 9000 : 4000);
  }

  dismiss(id: number): void {
    const toast = this.list.find((t) => t.id === id);
    this.list = this.list.filter((t) => t !== toast);
    toast?.gone?.();
  }
}

/** The one stack of messages. */
export const toasts = new Toasts();
