// What the people's room asks the server for.
import { call } from '../lib/api/client';
import type { AuditEntry, Credential, Person, Role } from '../lib/api/types';

const path = (id: string, what = '') => `/v1/users/${encodeURIComponent(id)}${what}`;

/** A fresh secret to hand over; it is shown once. */
export interface Secret {
  who: string;
  key?: string;
  /** What to add to this server's address. */
  link?: string;
}

export async function people(): Promise<Person[]> {
  return (await call<{ users: Person[] }>('/v1/users')).users;
}

export async function add(name: string, role: Role): Promise<Secret> {
  const made = await call<{ name: string; key: string; sign_in: string }>('/v1/users', { method: 'POST', body: { name, role } });
  return { who: made.name, key: made.key, link: made.sign_in };
}

export function setRole(id: string, role: Role): Promise<unknown> {
  return call(path(id, '/role'), { method: 'PUT', body: { role } });
}

export function shutOut(id: string): Promise<unknown> {
  return call(path(id, '/revoke'), { method: 'POST' });
}

export function letIn(id: string): Promise<unknown> {
  return call(path(id, '/restore'), { method: 'POST' });
}

export async function makeKey({ id, name }: Person): Promise<Secret> {
  return { who: name, key: (await call<{ key: string }>(path(id, '/keys'), { method: 'POST' })).key };
}

export async function makeLink({ id, name }: Person): Promise<Secret> {
  return { who: name, link: (await call<{ sign_in: string }>(path(id, '/link'), { method: 'POST' })).sign_in };
}

export async function keysOf(id: string): Promise<Credential[]> {
  return (await call<{ keys: Credential[] }>(path(id, '/keys'))).keys;
}

export function endKey(id: string, key: string): Promise<unknown> {
  return call(path(id, `/keys/${encodeURIComponent(key)}`), { method: 'DELETE' });
}

export function audit(filter: { actor: string; action: string }, offset: number): Promise<{ entries: AuditEntry[]; total: number }> {
  const wanted = Object.entries(filter).filter(([, value]) => value !== '');
  return call(`/v1/audit?${new URLSearchParams([...wanted, ['limit', '50'], ['offset', String(offset)]])}`);
}

/** Roles and what they may, least first. */
export const roles: readonly { id: Role; may: string }[] = [
  { id: 'user', may: 'chat, compare, rank' },
  { id: 'labeler', may: 'work on the labeling queue too' },
  { id: 'operator', may: 'train, decide what is served, look through the data too' },
  { id: 'admin', may: 'manage people and keys too' },
];
