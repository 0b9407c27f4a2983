import { describe, expect, it } from 'vitest';
import { href, parse } from './router.svelte';

describe('parse', () => {
  it('reads the page, the id and the query', () => {
    expect(parse('#/compare')).toMatchObject({ page: 'compare', id: null });
    expect(parse('#/chat/a%20b')).toMatchObject({ page: 'chat', id: 'a b' });
    expect(parse('#/sign-in?token=t_1').query.get('token')).toBe('t_1');
  });
  it('reads what is looked at in a room, and a link leads back to it', () => {
    expect(parse('#/operate/policies/pol_1')).toMatchObject({ page: 'operate', id: 'policies', detail: 'pol_1' });
    expect(parse('#/operate/policies').detail).toBeNull();
    expect(parse(href('operate', 'data', 'a b/c'))).toMatchObject({ id: 'data', detail: 'a b/c' });
    expect(href('chat')).toBe('#/chat');
  });
  it('shows the chat for what it does not know', () => {
    expect(parse('').page).toBe('chat');
    expect(parse('#/nowhere').page).toBe('chat');
  });
});
