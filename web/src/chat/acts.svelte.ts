// What can be done with a whole conversation, for the menus that offer it.
import Braces from '@lucide/svelte/icons/braces';
import FileText from '@lucide/svelte/icons/file-text';
import Pencil from '@lucide/svelte/icons/pencil';
import Trash from '@lucide/svelte/icons/trash-2';
import { toasts } from '../components/toasts.svelte';
import { explain } from '../lib/api/client';
import { download } from '../lib/browser';
import { router } from '../lib/router.svelte';
import { chats } from './chats.svelte';
import { exported, type Chat } from './keeper';
import { fileName } from './tree';

/** The menu of a conversation; `rename` opens the field for its name. */
export function acts(chat: Chat, rename: () => void) {
  return [
    { name: 'Rename', icon: Pencil, run: rename },
    { name: 'Export as Markdown', icon: FileText, run: () => void exportAs(chat, 'markdown') },
    { name: 'Export as JSON', icon: Braces, run: () => void exportAs(chat, 'json') },
    { name: 'Delete', icon: Trash, danger: true, run: () => remove(chat) },
  ];
}

/** Gives a conversation another name. */
export async function rename(chat: Chat, title: string | null): Promise<void> {
  if (title === null || title === chat.title) return;
  try {
    await chats.rename(chat, title);
  } catch (error) {
    toasts.show(explain(error), 'bad');
  }
}

async function exportAs(chat: Chat, format: 'json' | 'markdown'): Promise<void> {
  try {
    await chats.saver.settled(chat.id);
    const text = await exported(chat.id, format);
    const markdown = format === 'markdown';
    download(`${fileName(chat.title)}.${markdown ? 'md' : 'json'}`, markdown ? 'text/markdown' : 'application/json', text);
  } catch (error) {
    toasts.show(explain(error), 'bad');
  }
}

/** Takes it away at once, with a way back; it is deleted when that has gone, or with the page. */
function remove(chat: Chat): void {
  const open = router.place.id === chat.id;
  const { undo, finish } = chats.remove(chat);
  if (open) router.go('chat');
  const leave = (): void => void finish(true);
  addEventListener('pagehide', leave, { once: true });
  let undone = false;
  const back = (): void => {
    undone = true;
    undo();
    if (open) router.go('chat', chat.id);
  };
  toasts.show(`Deleted “${chat.title}”.`, 'plain', { name: 'Undo', run: back }, () => {
    removeEventListener('pagehide', leave);
    if (!undone) finish().catch((error: unknown) => (undo(), toasts.show(explain(error), 'bad')));
  });
}
