import { describe, expect, it } from 'vitest';
import { parse } from './router.svelte';

describe('parse', () => {
  it('reads the page, the id and the query', () => {
    expect(parse('#/compare')).toMatchObject({ page: 'compare', id: null });
    expect(parse('#/chat/a%20b')).toMatchObject({ page: 'chat', id: 'a b' });
    expect(parse('#/sign-in?token=t_1').query.get('token')).toBe('t_1');
  });
  it('shows the chat for what it does not know', () => {
    expect(parse('').page).toBe('chat');
    expect(parse('#/nowhere').page).toBe('chat');
  });
});
