// Conversations by when they went on, as people speak of days.

/** In groups: today, yesterday, the last week, the month, older. Empty groups are left out. */
export function byAge<T extends { updated: string }>(chats: readonly T[], now: Date = new Date()): { name: string; chats: T[] }[] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 86_400_000;
  const bounds: [string, number][] = [
    ['Today', midnight],
    ['Yesterday', midnight - day],
    ['Last 7 days', midnight - 7 * day],
    ['Last 30 days', midnight - 30 * day],
    ['Older', Number.NEGATIVE_INFINITY],
  ];
  const groups = bounds.map(([name]) => ({ name, chats: [] as T[] }));
  for (const chat of chats) {
    const at = bounds.findIndex(([, since]) => new Date(chat.updated).getTime() >= since);
    groups[at < 0 ? groups.length - 1 : at]?.chats.push(chat);
  }
  return groups.filter((group) => group.chats.length > 0);
}
