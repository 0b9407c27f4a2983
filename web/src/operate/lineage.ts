// Where each policy comes from, as a graph of lanes: one row per policy, the newest on top, the champion's line straight down
// to the base on the left, and what branched off it beside. Pure.

/** What the layout needs of a policy. */
export interface Made {
  id: string;
  parent_id?: string | null;
  created_at: string;
}

/** A policy's place: its row from the top, its lane from the left, and its parent's place. */
export interface Spot<T> {
  policy: T;
  row: number;
  lane: number;
  parent: { row: number; lane: number } | null;
}

/** Rows and lanes for all policies; the line of `champion` is the first lane. */
export function layout<T extends Made>(policies: readonly T[], champion: string | null): { spots: Spot<T>[]; lanes: number } {
  const rows = [...policies].sort((a, b) => b.created_at.localeCompare(a.created_at) || b.id.localeCompare(a.id));
  const rowOf = new Map(rows.map((policy, row) => [policy.id, row]));
  const byId = new Map(policies.map((policy) => [policy.id, policy]));
  const parentOf = (policy: T) => (policy.parent_id ? byId.get(policy.parent_id) : undefined);

  const line = new Set<string>();
  for (let at = byId.get(champion ?? ''); at && !line.has(at.id); at = parentOf(at)) line.add(at.id);

  // Each policy has at most one heir, which goes on in its lane: the one towards the champion, else the newest.
  const heir = new Map<string, string>();
  for (const policy of [...rows].reverse()) {
    const parent = parentOf(policy)?.id;
    if (parent !== undefined && !(line.has(heir.get(parent) ?? '') && !line.has(policy.id))) heir.set(parent, policy.id);
  }

  const lane = new Map<string, number>();
  const taken: { from: number; to: number }[][] = [];
  // From the oldest up: whoever isn't an heir begins a lane that is free from its parent's row to its own end.
  for (const policy of [...rows].reverse().sort((a, b) => Number(line.has(b.id)) - Number(line.has(a.id)))) {
    if (lane.has(policy.id)) continue;
    const chain: string[] = [];
    for (let at: string | undefined = policy.id; at !== undefined && !chain.includes(at); at = heir.get(at)) chain.push(at);
    const parent = parentOf(policy);
    const to = parent ? (rowOf.get(parent.id) ?? 0) : (rowOf.get(policy.id) ?? 0);
    const from = rowOf.get(chain.at(-1) ?? policy.id) ?? 0;
    let free = 0;
    while (taken[free]?.some((t) => t.from <= to && from <= t.to)) free++;
    (taken[free] ??= []).push({ from, to });
    for (const id of chain) lane.set(id, free);
  }

  const spot = (policy: T) => ({ row: rowOf.get(policy.id) ?? 0, lane: lane.get(policy.id) ?? 0 });
  const spots = rows.map((policy) => {
    const parent = parentOf(policy);
    return { policy, ...spot(policy), parent: parent ? spot(parent) : null };
  });
  return { spots, lanes: Math.max(1, taken.length) };
}
