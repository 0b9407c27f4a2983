// Short messages that come and go: what was done, and a way back where there is one.

/** One message. */
export interface Toast {
  id: number;
  text: string;
  tone: 'plain' | 'bad';
}

class Toasts {
  list = $state<Toast[]>([]);
  #next = 1;

  /** Shows a sentence for a while; an error stays longer. */
  show(text: string, tone: Toast['tone'] = 'plain'): void {
    const id = this.#next++;
    this.list.push({ id, text, tone });
    setTimeout(() => this.dismiss(id), tone === 'bad' ? 9000 : 4000);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((t) => t.id !== id);
  }
}

/** The one stack of messages. */
export const toasts = new Toasts();
