// Dragging an answer's letter onto a row of the ranking, with mouse, pen or finger alike.

/** What a drag does. */
export interface Drag {
  disabled: boolean;
  /** A press that didn't become a drag. */
  ontap: () => void;
  /** The row under the pointer: a place, "none", or null. */
  onover: (row: string | null) => void;
  ondrop: (row: string) => void;
}

/** Pixels that a pointer moves before a press becomes a drag. */
const slack = 5;

/** Makes an element draggable; rows are elements with `data-row`. */
export function drag(element: HTMLElement, start: Drag) {
  let params = start;
  let from: { x: number; y: number; pointer: number } | null = null;
  let ghost: HTMLElement | null = null;

  function rowAt(event: PointerEvent): string | null {
    return document.elementFromPoint(event.clientX, event.clientY)?.closest<HTMLElement>('[data-row]')?.dataset['row'] ?? null;
  }

  function down(event: PointerEvent): void {
    if (params.disabled || event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY, pointer: event.pointerId };
    element.setPointerCapture(event.pointerId);
  }

  function move(event: PointerEvent): void {
    if (!from) return;
    if (!ghost) {
      if (Math.hypot(event.clientX - from.x, event.clientY - from.y) < slack) return;
      ghost = element.cloneNode(true) as HTMLElement;
      ghost.classList.add('ghost');
      ghost.setAttribute('aria-hidden', 'true');
      document.body.append(ghost);
      element.classList.add('dragged');
    }
    ghost.style.left = `${event.clientX}px`;
    ghost.style.top = `${event.clientY}px`;
    params.onover(rowAt(event));
  }

  function up(event: PointerEvent): void {
    if (!from) return;
    const row = ghost && event.type === 'pointerup' ? rowAt(event) : null;
    const tapped = !ghost && event.type === 'pointerup';
    end();
    if (row !== null) params.ondrop(row);
    else if (tapped) params.ontap();
  }

  function end(): void {
    ghost?.remove();
    ghost = null;
    from = null;
    element.classList.remove('dragged');
    params.onover(null);
  }

  element.addEventListener('pointerdown', down);
  element.addEventListener('pointermove', move);
  element.addEventListener('pointerup', up);
  element.addEventListener('pointercancel', up);
  return {
    update: (next: Drag) => (params = next),
    destroy: () => ghost?.remove(),
  };
}
